package warpket_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warpket/warpket"
)

func TestAQuotaAdmitsWhatItHasRoomFor(t *testing.T) {
	t.Parallel()
	q := warpket.Quota{Limits: map[warpket.Limit]int64{warpket.SlotLimit: 4, warpket.GPULimit: 0}}
	tests := map[string]struct {
		what       warpket.Limit
		used, more int64
		want       warpket.Kind
		after      time.Duration
	}{
		"the last":            {warpket.SlotLimit, 3, 1, "", 0},
		"one too many":        {warpket.SlotLimit, 4, 1, warpket.OverQuota, time.Minute},
		"many too many":       {warpket.SlotLimit, 0, 5, warpket.OverQuota, time.Minute},
		"what is not bounded": {warpket.StorageLimit, 1 << 60, 1 << 60, "", 0},
		"none at all":         {warpket.GPULimit, 0, 1, warpket.OverQuota, 9*24*time.Hour + 12*time.Hour},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := q.Admit(test.what, test.used, test.more, noon)
			wantKind(t, err, test.want)
			if e, ok := errors.AsType[*warpket.Error](err); ok && e.After != test.after {
				t.Errorf("it is worth trying again after %s, want %s", e.After, test.after)
			}
		})
	}
}

func TestAQuotaIsFilledFromAnother(t *testing.T) {
	t.Parallel()
	own := warpket.Quota{ProjectID: "p", Limits: map[warpket.Limit]int64{warpket.SlotLimit: 0}}
	got := own.Or(warpket.Quota{Limits: map[warpket.Limit]int64{warpket.SlotLimit: 4, warpket.CPULimit: 5}})
	if diff := cmp.Diff(warpket.Quota{ProjectID: "p", Limits: map[warpket.Limit]int64{warpket.SlotLimit: 0, warpket.CPULimit: 5}}, got); diff != "" {
		t.Error(diff)
	}
	if len(own.Limits) != 1 {
		t.Errorf("it has changed: %v", own.Limits)
	}
}
