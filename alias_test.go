package warpket_test

import (
	"slices"
	"testing"

	"github.com/warpket/warpket"
)

func TestAnAliasPicksEachVersionByItsWeight(t *testing.T) {
	t.Parallel()
	a := warpket.Alias{Routes: []warpket.Route{{Version: 3, Weight: 2}, {Version: 1, Weight: 0}, {Version: warpket.DraftNumber, Weight: 1}}}
	var picked []int
	for draw := range 3 {
		picked = append(picked, a.Pick(func(n int) int {
			if n != 3 {
				t.Errorf("it draws from %d numbers", n)
			}
			return draw
		}))
	}
	if want := []int{3, 3, warpket.DraftNumber}; !slices.Equal(picked, want) {
		t.Errorf("it picked %v, want %v", picked, want)
	}
}

func TestAnAliasStandsForVersionsThatCanBeChosen(t *testing.T) {
	t.Parallel()
	eleven := make([]warpket.Route, 11)
	for i := range eleven {
		eleven[i] = warpket.Route{Version: i + 1, Weight: 1}
	}
	tests := map[string]struct {
		routes []warpket.Route
		want   warpket.Kind // "" means allowed
	}{
		"one":                              {[]warpket.Route{{Version: 1, Weight: 1}}, ""},
		"the draft":                        {[]warpket.Route{{Version: warpket.DraftNumber, Weight: 1}}, ""},
		"several, one of them never":       {[]warpket.Route{{Version: 1, Weight: 0}, {Version: 2, Weight: 9}}, ""},
		"ten":                              {eleven[:10], ""},
		"none":                             {nil, warpket.Invalid},
		"more than ten":                    {eleven, warpket.Invalid},
		"none that could be chosen":        {[]warpket.Route{{Version: 1}, {Version: 2}}, warpket.Invalid},
		"one twice":                        {[]warpket.Route{{Version: 1, Weight: 1}, {Version: 1, Weight: 2}}, warpket.Invalid},
		"one that no version can have":     {[]warpket.Route{{Version: -1, Weight: 1}}, warpket.Invalid},
		"a weight below nothing":           {[]warpket.Route{{Version: 1, Weight: 5}, {Version: 2, Weight: -1}}, warpket.Invalid},
		"a weight that is beyond counting": {[]warpket.Route{{Version: 1, Weight: 1_000_001}}, warpket.Invalid},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := (warpket.Alias{Routes: test.routes}).Check(); warpket.KindOf(err) != test.want {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}
