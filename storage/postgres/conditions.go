package postgres

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/warpket/warpket"
)

// conditions gathers the where clause of a list with its arguments.
type conditions struct {
	where strings.Builder
	args  []any
}

// where starts a clause; its arguments are $1, $2, ...
func where(sql string, args ...any) *conditions {
	c := &conditions{args: args}
	c.where.WriteString(sql)
	return c
}

// and adds a condition in which %d stands for the number of its argument.
func (c *conditions) and(sql string, arg any) {
	c.args = append(c.args, arg)
	fmt.Fprintf(&c.where, " and "+sql, len(c.args))
}

// compare adds a caller's condition on a column. convert makes the column's
// type of a value; nil leaves it text.
func (c *conditions) compare(column string, cond warpket.Condition, convert func(string) (any, error)) error {
	if cond.Op == "" {
		return nil
	}
	values := make([]any, len(cond.Values))
	for i, text := range cond.Values {
		values[i] = text
		if convert != nil {
			v, err := convert(text)
			if err != nil {
				return err
			}
			values[i] = v
		}
	}
	switch cond.Op {
	case warpket.In, warpket.Nin:
		numbers := make([]string, len(values))
		for i, v := range values {
			c.args = append(c.args, v)
			numbers[i] = fmt.Sprintf("$%d", len(c.args))
		}
		not := map[bool]string{true: "not "}[cond.Op == warpket.Nin]
		fmt.Fprintf(&c.where, " and %s %sin (%s)", column, not, strings.Join(numbers, ", "))
	case warpket.Has:
		c.and(column+" like $%d", "%"+likeText.Replace(cond.Values[0])+"%") // which trigrams serve
	default:
		c.and(column+" "+comparisons[cond.Op]+" $%d", values[0])
	}
	return nil
}

// likeText writes a text so that a pattern finds just it.
var likeText = strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`)

// compareCreated adds a caller's condition on the column created_date. IDs begin
// with the time, so they bound what has to be looked at.
func (c *conditions) compareCreated(cond warpket.Condition) error {
	convert := date("createdDate")
	if err := c.compare("created_date", cond, convert); err != nil || cond.Op == "" {
		return err
	}
	v, _ := convert(cond.Values[0]) // as compare has read it
	t, _ := v.(time.Time)
	switch cond.Op {
	case warpket.Gt, warpket.Gte: // a request that is repeated creates under the ID that it first got
		c.and("id >= $%d", warpket.FirstIDAt(t.Add(-requestsKept-time.Hour)))
	case warpket.Lt, warpket.Lte:
		c.and("id < $%d", warpket.FirstIDAt(t.Add(time.Minute)))
	default:
	}
	return nil
}

// date reads the values of a condition on a date.
func date(field string) func(string) (any, error) {
	return func(text string) (any, error) {
		t, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			return nil, warpket.Errorf(warpket.Invalid, "%s is compared with a date such as 2026-11-27T15:00:00Z, not with %.40q", field, text).At("query.%s", field)
		}
		return t, nil
	}
}

// wholeNumber reads the values of a condition on a number.
func wholeNumber(field string) func(string) (any, error) {
	return func(text string) (any, error) {
		n, err := strconv.ParseInt(text, 10, 32)
		if err != nil || n < 0 {
			return nil, warpket.Errorf(warpket.Invalid, "%s is compared with a number from 0 to 2147483647, not with %.40q", field, text).At("query.%s", field)
		}
		return int32(n), nil
	}
}

var comparisons = map[warpket.Op]string{
	warpket.Eq: "=", warpket.Neq: "<>", warpket.Gt: ">", warpket.Gte: ">=", warpket.Lt: "<", warpket.Lte: "<=",
}
