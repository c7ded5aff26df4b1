package api

import (
	"context"
	"encoding/json"
	"regexp"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/storage/postgres"
)

// PageInput is what every list takes. It is exported for huma, which reads no
// other embedded fields.
type PageInput struct {
	Cursor string `query:"cursor" maxLength:"200" doc:"nextCursor of the page before; leave it out for the first page"`
	Limit  int    `query:"limit" minimum:"1" maximum:"200" default:"50" doc:"How many items at most"`
}

func (p PageInput) page() postgres.Page { return postgres.Page{Cursor: p.Cursor, Limit: p.Limit} }

// listOutput is what every list answers.
type listOutput[T any] struct{ Body List[T] }

// List is one page of a list.
type List[T any] struct {
	Items      []T    `json:"items" nullable:"false" doc:"Newest first"`
	NextCursor string `json:"nextCursor,omitempty" doc:"Cursor of the next page; absent on the last"`
}

// list converts the items of a page.
func list[D, W any](items []D, next string, convert func(D) W) *listOutput[W] {
	out := &listOutput[W]{}
	out.Body.Items = make([]W, len(items))
	for i, item := range items {
		out.Body.Items[i] = convert(item)
	}
	out.Body.NextCursor = next
	return out
}

// The operators of texts and dates, unless a list says otherwise.
var (
	textOps = []warpket.Op{warpket.Eq, warpket.Neq, warpket.In, warpket.Has}
	dateOps = []warpket.Op{warpket.Gt, warpket.Gte, warpket.Lt, warpket.Lte, warpket.Eq, warpket.Neq}
)

// asked is what a query parameter narrows a list by.
type asked struct {
	to          *warpket.Condition
	field, text string
	ops         []warpket.Op
}

// conditions reads what a list is narrowed by.
func conditions(all ...asked) error {
	for _, a := range all {
		var err error
		if *a.to, err = warpket.ParseCondition(a.field, a.text, a.ops...); err != nil {
			return err
		}
	}
	return nil
}

// NameInput is what lists of named things take. It is exported for huma, which
// reads no other embedded fields.
type NameInput struct {
	Name string `query:"name" maxLength:"4000" doc:"Only those with this name, or eq:, neq:, in:, has: and a text" example:"has:lab"`
}

func (n NameInput) condition() (warpket.Condition, error) {
	return warpket.ParseCondition("name", n.Name, textOps...)
}

// Any is any JSON value, passed on as it was sent.
type Any json.RawMessage

// Schema says that anything goes.
func (Any) Schema(huma.Registry) *huma.Schema { return &huma.Schema{} }

// MarshalJSON passes the value on.
func (a Any) MarshalJSON() ([]byte, error) {
	if len(a) == 0 {
		return []byte("null"), nil
	}
	return a, nil
}

// UnmarshalJSON keeps the value as it is.
func (a *Any) UnmarshalJSON(b []byte) error {
	*a = append((*a)[:0], b...)
	return nil
}

// ms is a duration on the wire: milliseconds, fractional.
func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// maxPrefer is how long a Prefer header may be, in bytes: HeldInput's maxLength.
const maxPrefer = 100

var waitForm = regexp.MustCompile(`(?i)(?:^|[,;\s])wait=(\d{1,5})(?:$|[,;\s])`)

// hold waits as long as a Prefer header asks (RFC 7240, "wait"), and reports
// whether it asked at all.
func hold(ctx context.Context, prefer string) (context.Context, context.CancelFunc, bool) {
	m := waitForm.FindStringSubmatch(prefer)
	if m == nil {
		return ctx, func() {}, false
	}
	seconds, _ := strconv.Atoi(m[1]) // digits only
	held, cancel := context.WithTimeout(ctx, time.Duration(seconds)*time.Second)
	return held, cancel, true
}
