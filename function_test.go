package warpket_test

import (
	"errors"
	"testing"
	"time"

	"github.com/warpket/warpket"
)

func TestSettingsCheck(t *testing.T) {
	t.Parallel()
	good := warpket.Settings{Entry: "handler.handler", Lane: warpket.Durable, Reuse: warpket.ReuseProcess, Resources: warpket.DefaultResources}
	with := func(change func(*warpket.Settings)) warpket.Settings {
		s := good
		change(&s)
		return s
	}
	tests := map[string]struct {
		settings warpket.Settings
		field    string // "" means allowed
	}{
		"the default":             {good, ""},
		"the longest timeout":     {with(func(s *warpket.Settings) { s.Resources.Timeout = 24 * time.Hour }), ""},
		"ten retries":             {with(func(s *warpket.Settings) { s.Retries = 10 }), ""},
		"no entry":                {with(func(s *warpket.Settings) { s.Entry = "" }), "entry"},
		"no function":             {with(func(s *warpket.Settings) { s.Entry = "handler." }), "entry"},
		"no module":               {with(func(s *warpket.Settings) { s.Entry = ".handler" }), "entry"},
		"one word":                {with(func(s *warpket.Settings) { s.Entry = "handler" }), "entry"},
		"a path":                  {with(func(s *warpket.Settings) { s.Entry = "../handler.py" }), "entry"},
		"code":                    {with(func(s *warpket.Settings) { s.Entry = "os.system('x')" }), "entry"},
		"a digit first":           {with(func(s *warpket.Settings) { s.Entry = "1a.b" }), "entry"},
		"a line break":            {with(func(s *warpket.Settings) { s.Entry = "a.b\n" }), "entry"},
		"fewer than no retries":   {with(func(s *warpket.Settings) { s.Retries = -1 }), "retries"},
		"too many retries":        {with(func(s *warpket.Settings) { s.Retries = 11 }), "retries"},
		"no cpu":                  {with(func(s *warpket.Settings) { s.Resources.CPU = 0 }), "resources.cpu"},
		"too much cpu":            {with(func(s *warpket.Settings) { s.Resources.CPU = 256_001 }), "resources.cpu"},
		"little memory":           {with(func(s *warpket.Settings) { s.Resources.Memory = 1 }), "resources.memory"},
		"too much memory":         {with(func(s *warpket.Settings) { s.Resources.Memory = 1 << 60 }), "resources.memory"},
		"no time":                 {with(func(s *warpket.Settings) { s.Resources.Timeout = 0 }), "resources.timeout"},
		"less than no time":       {with(func(s *warpket.Settings) { s.Resources.Timeout = -time.Hour }), "resources.timeout"},
		"more than a day of time": {with(func(s *warpket.Settings) { s.Resources.Timeout = 24*time.Hour + 1 }), "resources.timeout"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := test.settings.Check()
			if test.field == "" {
				wantKind(t, err, "")
				return
			}
			wantKind(t, err, warpket.Invalid)
			if e, ok := errors.AsType[*warpket.Error](err); ok && e.Field != test.field {
				t.Errorf("the error is about %q, not %q", e.Field, test.field)
			}
		})
	}
}
