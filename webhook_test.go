package warpket_test

import (
	"strings"
	"testing"
	"time"

	"github.com/warpket/warpket"
)

func TestASignatureIsGoodForItsBodySecretAndTime(t *testing.T) {
	t.Parallel()
	const secret = "a secret of many bytes"
	now, body := time.Unix(1_700_000_000, 0), []byte(`{"n":1}`)
	good := warpket.SignedByWarpket.Sign(secret, body, now)
	github := warpket.SignedByGitHub.Sign(secret, body, now)
	tests := map[string]struct {
		signature warpket.Signature
		header    string
		body      string
		later     time.Duration
		good      bool
	}{
		"as it was made":                  {warpket.SignedByWarpket, good, `{"n":1}`, 0, true},
		"five minutes later":              {warpket.SignedByWarpket, good, `{"n":1}`, 5 * time.Minute, true},
		"with a clock that is behind":     {warpket.SignedByWarpket, good, `{"n":1}`, -5 * time.Minute, true},
		"beside one of an older secret":   {warpket.SignedByWarpket, good + ",v1=" + strings.Repeat("0", 64), `{"n":1}`, 0, true},
		"after one of an older secret":    {warpket.SignedByWarpket, strings.Replace(good, ",v1", ",v1=00,v1", 1), `{"n":1}`, 0, true},
		"too late":                        {warpket.SignedByWarpket, good, `{"n":1}`, 5*time.Minute + time.Second, false},
		"too early":                       {warpket.SignedByWarpket, good, `{"n":1}`, -5*time.Minute - time.Second, false},
		"made younger":                    {warpket.SignedByWarpket, strings.Replace(good, "t=1700000000", "t=1700000299", 1), `{"n":1}`, 0, false},
		"of another body":                 {warpket.SignedByWarpket, good, `{"n":2}`, 0, false},
		"of another secret":               {warpket.SignedByWarpket, warpket.SignedByWarpket.Sign("another secret", body, now), `{"n":1}`, 0, false},
		"of a body that holds the time":   {warpket.SignedByWarpket, strings.Replace(github, "sha256=", "t=1700000000,v1=", 1), `{"n":1}`, 0, false},
		"left out":                        {warpket.SignedByWarpket, "", `{"n":1}`, 0, false},
		"without a time":                  {warpket.SignedByWarpket, good[strings.Index(good, "v1"):], `{"n":1}`, 0, false},
		"without an HMAC":                 {warpket.SignedByWarpket, "t=1700000000", `{"n":1}`, 0, false},
		"with an empty HMAC":              {warpket.SignedByWarpket, "t=1700000000,v1=", `{"n":1}`, 0, false},
		"with a part of the HMAC":         {warpket.SignedByWarpket, good[:len(good)-2], `{"n":1}`, 0, false},
		"GitHub's":                        {warpket.SignedByGitHub, github, `{"n":1}`, time.Hour, true},
		"GitHub's, of another body":       {warpket.SignedByGitHub, github, `{"n":2}`, 0, false},
		"GitHub's, left out":              {warpket.SignedByGitHub, "", `{"n":1}`, 0, false},
		"GitHub's, without its algorithm": {warpket.SignedByGitHub, github[len("sha256="):], `{"n":1}`, 0, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := test.signature.Verify(secret, test.header, []byte(test.body), now.Add(test.later))
			if want := map[bool]warpket.Kind{false: warpket.Denied}[test.good]; warpket.KindOf(err) != want {
				t.Errorf("%q is answered %v", test.header, err)
			}
			if err != nil && strings.Contains(err.Error(), secret) {
				t.Errorf("the error tells the secret: %v", err)
			}
		})
	}
}

func TestAnHMACIsTheOneOfRFC4231(t *testing.T) {
	t.Parallel()
	// RFC 4231, test case 2.
	if got, want := warpket.SignedByGitHub.Sign("Jefe", []byte("what do ya want for nothing?"), time.Time{}), "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"; got != want {
		t.Errorf("it is %s, want %s", got, want)
	}
}

func TestAWebhookExecutesOneThing(t *testing.T) {
	t.Parallel()
	id := warpket.NewID(time.Now())
	tests := map[string]struct {
		webhook warpket.Webhook
		want    warpket.Kind // "" means allowed
	}{
		"the newest version of a function":  {warpket.Webhook{FunctionID: id, RatePerMinute: 1}, ""},
		"a version of a function":           {warpket.Webhook{FunctionID: id, Version: new(3), RatePerMinute: 6000}, ""},
		"the draft of a function":           {warpket.Webhook{FunctionID: id, Version: new(warpket.DraftNumber), RatePerMinute: 1}, ""},
		"an alias":                          {warpket.Webhook{Alias: "prod", RatePerMinute: 1}, ""},
		"nothing":                           {warpket.Webhook{RatePerMinute: 1}, warpket.Invalid},
		"a function and an alias":           {warpket.Webhook{FunctionID: id, Alias: "prod", RatePerMinute: 1}, warpket.Invalid},
		"a version of an alias":             {warpket.Webhook{Alias: "prod", Version: new(1), RatePerMinute: 1}, warpket.Invalid},
		"never":                             {warpket.Webhook{FunctionID: id}, warpket.Invalid},
		"too often":                         {warpket.Webhook{FunctionID: id, RatePerMinute: 6001}, warpket.Invalid},
		"signed with nothing":               {warpket.Webhook{FunctionID: id, RatePerMinute: 1, Signature: warpket.SignedByWarpket}, warpket.Invalid},
		"with a secret that signs nothing":  {warpket.Webhook{FunctionID: id, RatePerMinute: 1, Sealed: []byte{1}}, warpket.Invalid},
		"signed":                            {warpket.Webhook{FunctionID: id, RatePerMinute: 1, Signature: warpket.SignedByGitHub, Sealed: []byte{1}}, ""},
		"with a NUL in what is said of it":  {warpket.Webhook{FunctionID: id, RatePerMinute: 1, Description: "\x00"}, warpket.Invalid},
		"a version that no number can have": {warpket.Webhook{FunctionID: id, Version: new(-1), RatePerMinute: 1}, warpket.Invalid},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := test.webhook.Check(); warpket.KindOf(err) != test.want {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}
