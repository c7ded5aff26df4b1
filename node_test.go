package warpket_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/warpket/warpket"
)

func TestAnIsolationSaysWhatItLacks(t *testing.T) {
	t.Parallel()
	for want, i := range map[string]warpket.Isolation{
		"none":                    warpket.NoIsolation,
		"gvisor":                  {Kind: "gvisor", UID: "own"},
		"namespaces (uid shared)": {Kind: "namespaces", UID: "shared"},
		"namespaces (uid shared; not enforced: cpu, memory)": {Kind: "namespaces", UID: "shared", Unenforced: []string{"cpu", "memory"}},
		"namespaces (not enforced: memory)":                  {Kind: "namespaces", UID: "own", Unenforced: []string{"memory"}},
	} {
		if got := i.String(); got != want || i.Complete() != (want == "gvisor") {
			t.Errorf("%q, complete %t; want %q", got, i.Complete(), want)
		}
	}
}

func TestLabelsOfANode(t *testing.T) {
	t.Parallel()
	text := func(s string) *string { return &s }
	many := map[string]*string{}
	for i := range warpket.MaxLabels + 1 {
		many[fmt.Sprintf("l%d", i)] = text("")
	}
	tests := map[string]struct {
		changes map[string]*string
		want    map[string]string // nil: refused
	}{
		"one is added":            {map[string]*string{"rack": text("7")}, map[string]string{"zone": "a", "rack": "7"}},
		"one is changed":          {map[string]*string{"zone": text("")}, map[string]string{"zone": ""}},
		"one is removed":          {map[string]*string{"zone": nil}, map[string]string{}},
		"none is removed twice":   {map[string]*string{"rack": nil}, map[string]string{"zone": "a"}},
		"a name with a path":      {map[string]*string{"example.org/a_b": text("1.2-x")}, map[string]string{"zone": "a", "example.org/a_b": "1.2-x"}},
		"no name":                 {map[string]*string{"": text("a")}, nil},
		"a name that ends so":     {map[string]*string{"a/": text("a")}, nil},
		"a name with a line":      {map[string]*string{"a\nb": text("a")}, nil},
		"a value with a line":     {map[string]*string{"a": text("b\n")}, nil},
		"too many":                {many, nil},
		"a value that is long":    {map[string]*string{"a": text(strings.Repeat("x", 64))}, nil},
		"a name of 64 is refused": {map[string]*string{strings.Repeat("x", 64): text("")}, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := warpket.Node{Labels: map[string]string{"zone": "a"}}
			now := time.Now()
			err := n.SetLabels(tt.changes, now)
			if tt.want == nil {
				if warpket.KindOf(err) != warpket.Invalid || len(n.Labels) != 1 || !n.UpdatedDate.IsZero() {
					t.Errorf("it is %+v (%v)", n, err)
				}
			} else if err != nil || !maps.Equal(n.Labels, tt.want) || n.UpdatedDate != now {
				t.Errorf("it is %+v (%v)", n, err)
			}
		})
	}
}

func TestWhatOperatorsSayOfANode(t *testing.T) {
	t.Parallel()
	now := time.Now()
	n := warpket.Node{Slots: 1}
	n.Drain(now)
	if !n.Cordoned || !n.Draining || n.Drained() {
		t.Errorf("drained it is %+v", n)
	}
	if n.Slots = 0; !n.Drained() {
		t.Error("an empty node is not drained")
	}
	if n.Cordon(true, now); !n.Draining {
		t.Error("cordoned again it is not drained any more")
	}
	if n.Cordon(false, now); n.Draining || n.Cordoned {
		t.Errorf("uncordoned it is %+v", n)
	}
	n.Live = true
	if err := n.Fence(now); warpket.KindOf(err) != warpket.Conflict || n.Fenced {
		t.Errorf("a node that answers is fenced: %v", err)
	}
	n.Live = false
	if err := n.Fence(now); err != nil || !n.Fenced {
		t.Errorf("a silent node is not fenced: %v", err)
	}
}
