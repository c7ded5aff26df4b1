package warpket_test

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/warpket/warpket"
)

// wantKind fails the test unless err is of a kind; "" wants no error.
func wantKind(t *testing.T, err error, want warpket.Kind) {
	t.Helper()
	if got := warpket.KindOf(err); got != want {
		t.Errorf("got kind %q (%v), want %q", got, err, want)
	}
}

func TestKindOf(t *testing.T) {
	t.Parallel()
	conflict := warpket.Errorf(warpket.Conflict, "taken")
	tests := map[string]struct {
		err  error
		want warpket.Kind
	}{
		"no error has no kind":         {nil, ""},
		"an error of others is ours":   {io.EOF, warpket.Internal},
		"wrapping keeps the kind":      {fmt.Errorf("publishing: %w", conflict), warpket.Conflict},
		"the outermost kind counts":    {warpket.Because(warpket.Unavailable, conflict, "busy"), warpket.Unavailable},
		"naming a field keeps a kind":  {conflict.At("files[%d]", 3), warpket.Conflict},
		"joined errors keep their own": {errors.Join(io.EOF, conflict), warpket.Conflict},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantKind(t, test.err, test.want)
		})
	}
}

func TestACauseIsForTheLogOnly(t *testing.T) {
	t.Parallel()
	err := warpket.Because(warpket.Unavailable, io.EOF, "try again")
	if err.Message != "try again" {
		t.Errorf("the caller reads %q", err.Message)
	}
	if !errors.Is(err, io.EOF) || err.Error() != "try again: EOF" {
		t.Errorf("the log reads %q", err)
	}
}
