package warpket_test

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/warpket/warpket"
)

func TestIDsSortByTheTimeTheyWereMade(t *testing.T) {
	t.Parallel()
	var ids []warpket.ID
	for i := range 1000 {
		ids = append(ids, warpket.NewID(noon.Add(time.Duration(i)*time.Millisecond)))
	}
	if !slices.IsSorted(ids) {
		t.Error("they do not")
	}
}

func TestIDsAreUnique(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	seen := map[warpket.ID]bool{}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 1000 {
				id := warpket.NewID(noon)
				mu.Lock()
				if seen[id] {
					t.Errorf("%s was made twice", id)
				}
				seen[id] = true
				mu.Unlock()
			}
		})
	}
	all.Wait()
}

func TestAnIDTellsItsTime(t *testing.T) {
	t.Parallel()
	at := noon.Add(123456789 * time.Nanosecond)
	id := warpket.NewID(at)
	if got := id.Time(); !got.Equal(at.Truncate(time.Millisecond)) {
		t.Errorf("%s was made at %s, not %s", id, got, at)
	}
	if first := warpket.FirstIDAt(at); first > id || !first.Time().Equal(id.Time()) {
		t.Errorf("the first ID at that time is %s, after %s", first, id)
	}
	if next := warpket.FirstIDAt(at.Add(time.Millisecond)); next <= id {
		t.Errorf("the first ID of the next millisecond is %s, not after %s", next, id)
	}
	if !warpket.ID("00000000-0000-4000-8000-000000000000").Time().IsZero() || !warpket.ID("x").Time().IsZero() {
		t.Error("what is no UUIDv7 has a time")
	}
}

func TestParseID(t *testing.T) {
	t.Parallel()
	id := warpket.NewID(noon)
	for _, text := range []string{string(id), strings.ToUpper(string(id))} {
		if got, err := warpket.ParseID("function", text); err != nil || got != id {
			t.Errorf("%q is read as %q (%v)", text, got, err)
		}
	}
	for _, text := range []string{
		"", "x", string(id) + " ", " " + string(id), string(id[:35]), strings.ReplaceAll(string(id), "-", ""),
		"{" + string(id[:34]) + "}", strings.Replace(string(id), "-", "_", 1), "0190\x00000-0000-7000-8000-000000000000",
		"../../../../../../../../etc/passwd0000", "019000000-000-7000-8000-000000000000", strings.Repeat("é", 18),
	} {
		_, err := warpket.ParseID("function", text)
		if wantKind(t, err, warpket.NotFound); err != nil && !strings.Contains(err.Error(), "function") {
			t.Errorf("the error does not say what was looked for: %v", err)
		}
	}
}
