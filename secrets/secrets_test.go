package secrets

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/warpket/warpket"
)

const project = warpket.ID("0192f000-0000-7000-8000-000000000001")

func ring(t *testing.T, keys ...string) Keyring {
	t.Helper()
	r, err := ParseKeyring(strings.Join(keys, ",\n"))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestAKeyringReadsKeysAndTellsNoneOfThemInItsErrors(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		text string
		want warpket.Kind
		keys int
	}{
		"none":             {"", "", 0},
		"one":              {NewOperatorKey() + "\n", "", 1},
		"two":              {NewOperatorKey() + "," + NewOperatorKey(), "", 2},
		"too short":        {"c2hvcnQta2V5", warpket.Invalid, 0},
		"not base64":       {"canary canary", warpket.Invalid, 0},
		"one good one bad": {NewOperatorKey() + " canary", warpket.Invalid, 0},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, err := ParseKeyring(test.text)
			if warpket.KindOf(err) != test.want || len(r.keys) != test.keys {
				t.Errorf("got %d keys, %v", len(r.keys), err)
			}
			if err != nil && (strings.Contains(err.Error(), "canary") || strings.Contains(err.Error(), "c2hv")) {
				t.Errorf("the error tells the key: %v", err)
			}
		})
	}
}

func TestASecretOpensOnlyWhereItBelongs(t *testing.T) {
	t.Parallel()
	r := ring(t, NewOperatorKey())
	wrapped, err := r.NewProjectKey(project)
	if err != nil {
		t.Fatal(err)
	}
	key, rewrapped, err := r.Unwrap(project, wrapped)
	if err != nil || rewrapped != nil {
		t.Fatal(err, rewrapped)
	}
	sealed := key.Seal("TOKEN", "canary")
	if bytes.Contains(sealed, []byte("canary")) || bytes.Equal(sealed, key.Seal("TOKEN", "canary")) {
		t.Error("the ciphertext tells the value, or that two are the same")
	}
	if got, err := key.Open("TOKEN", sealed); err != nil || got != "canary" {
		t.Errorf("got %q, %v", got, err)
	}
	if got, err := key.Open("OTHER", sealed); err == nil {
		t.Errorf("it opens under another name: %q", got)
	}
	other := Key{"0192f000-0000-7000-8000-000000000002", key.aead}
	if got, err := other.Open("TOKEN", sealed); err == nil {
		t.Errorf("it opens in another project: %q", got)
	}
	sealed[len(sealed)-1] ^= 1
	if _, err := key.Open("TOKEN", sealed); err == nil {
		t.Error("it opens after it was changed")
	}
	if _, _, err := r.Unwrap(other.project, wrapped); warpket.KindOf(err) != warpket.Unavailable {
		t.Errorf("the key of one project opens for another: %v", err)
	}
}

func TestWithoutAKeyTheErrorSaysWhatToSet(t *testing.T) {
	t.Parallel()
	_, err := New(Keyring{}, nil).Seal(t.Context(), project, "TOKEN", "canary")
	if warpket.KindOf(err) != warpket.Unavailable || !strings.Contains(err.Error(), "WARPKET_SECRET_KEY") {
		t.Errorf("got %v", err)
	}
}

// records are those of one project.
type records struct{ wrapped []byte }

func (r *records) ProjectKey(_ context.Context, _ warpket.ID, first func() ([]byte, error)) (_ []byte, err error) {
	if r.wrapped == nil {
		r.wrapped, err = first()
	}
	return r.wrapped, err
}

func (r *records) RewrapProjectKey(_ context.Context, _ warpket.ID, _, wrapped []byte) error {
	r.wrapped = wrapped
	return nil
}

func TestAProjectKeyIsWrappedAnewByTheFirstKeyWhenItIsNextUsed(t *testing.T) {
	t.Parallel()
	kept := &records{}
	before, after := NewOperatorKey(), NewOperatorKey()
	sealed, err := New(ring(t, before), kept).Seal(t.Context(), project, "TOKEN", "value")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(ring(t, after), kept).Key(t.Context(), project); warpket.KindOf(err) != warpket.Unavailable {
		t.Errorf("without the earlier key: %v", err)
	}
	if _, err := New(ring(t, after, before), kept).Key(t.Context(), project); err != nil {
		t.Fatal(err)
	}
	key, err := New(ring(t, after), kept).Key(t.Context(), project) // the earlier one may go
	if err != nil {
		t.Fatal(err)
	}
	if got, err := key.Open("TOKEN", sealed); err != nil || got != "value" {
		t.Errorf("got %q, %v", got, err)
	}
}
