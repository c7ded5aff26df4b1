package warpket

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"
	"time"
)

// Webhook is a URL that executes a function for whoever knows it, or, with a
// signature, for whoever also knows its secret.
type Webhook struct {
	ID            ID
	ProjectID     ID
	Description   string
	FunctionID    ID     // empty when it has an alias
	Version       *int   // the number of a version, or DraftNumber; nil for the newest, and with an alias
	Alias         string // name of the alias that it executes; empty when it has a function
	Signature     Signature
	Sealed        []byte // what requests are signed with, as it is kept; nil without a signature
	RatePerMinute int    // requests that each server lets through
	Sync          bool   // whoever invokes it waits for the result and gets it
	CreatedDate   time.Time
	UpdatedDate   time.Time
	Executes      ID // the function that it executes, itself or by its alias; set when it is read
}

// Signature says how the requests to a webhook are signed.
type Signature string

// The signatures. Both are an HMAC-SHA256 in hexadecimal.
const (
	Unsigned        Signature = ""
	SignedByWarpket Signature = "warpket" // X-Warpket-Signature: t=SECONDS,v1=HMAC, of "SECONDS.BODY"
	SignedByGitHub  Signature = "github"  // X-Hub-Signature-256: sha256=HMAC, of the body; nothing says when it was made
)

// Header is the header that a signature comes in.
func (s Signature) Header() string {
	if s == SignedByGitHub {
		return "X-Hub-Signature-256"
	}
	return "X-Warpket-Signature"
}

// Bounds of webhooks.
const (
	MaxRatePerMinute     = 6000
	DefaultRatePerMinute = 60
	MinWebhookSecret     = 16 // bytes
	MaxWebhookSecret     = 256
	// SignatureAge is how far the time in a signature may be from now.
	SignatureAge = 5 * time.Minute
)

// Check reports what of the webhook cannot be.
func (w Webhook) Check() error {
	switch {
	case (w.FunctionID == "") == (w.Alias == ""):
		return Errorf(Invalid, "a webhook executes a function or an alias: give one of functionId and alias").At("functionId")
	case w.Alias != "" && w.Version != nil:
		return Errorf(Invalid, "an alias says itself which version runs: leave version out, or give functionId instead of alias").At("version")
	case w.Version != nil && *w.Version < DraftNumber:
		return Errorf(Invalid, "%d is not the number of a version", *w.Version).At("version")
	case w.RatePerMinute < 1 || w.RatePerMinute > MaxRatePerMinute:
		return Errorf(Invalid, "ratePerMinute is from 1 to %d, not %d", MaxRatePerMinute, w.RatePerMinute).At("ratePerMinute")
	case w.Signature != Unsigned && w.Sealed == nil:
		return Errorf(Invalid, "a signature needs a secret of %d to %d bytes", MinWebhookSecret, MaxWebhookSecret).At("secret")
	case w.Signature == Unsigned && w.Sealed != nil:
		return Errorf(Invalid, "the secret is for a signature: set signature, too").At("signature")
	}
	return CheckDescription(w.Description)
}

// CheckWebhookSecret checks what requests are to be signed with. The error does
// not tell it.
func CheckWebhookSecret(secret string) error {
	if len(secret) < MinWebhookSecret || len(secret) > MaxWebhookSecret {
		return Errorf(Invalid, "the secret has %d bytes; %d to %d make one that nobody guesses and everybody can store", len(secret), MinWebhookSecret, MaxWebhookSecret).At("secret")
	}
	return nil
}

// Sign makes the header of a request with this body.
func (s Signature) Sign(secret string, body []byte, now time.Time) string {
	if s == SignedByGitHub {
		return "sha256=" + hex.EncodeToString(mac(secret, body))
	}
	t := strconv.FormatInt(now.Unix(), 10)
	return "t=" + t + ",v1=" + hex.EncodeToString(mac(secret, []byte(t+"."), body))
}

// Verify reports why a header does not sign this body now. It takes as long
// whatever of the HMAC is wrong.
func (s Signature) Verify(secret, header string, body []byte, now time.Time) error {
	refused := Errorf(Denied, "the request is not signed as this webhook asks: %s does not fit its secret and body", s.Header())
	if header == "" {
		return Errorf(Denied, "this webhook takes signed requests only: send %s", s.Header())
	}
	if s == SignedByGitHub {
		given, ok := strings.CutPrefix(header, "sha256=")
		if !ok || !same(given, mac(secret, body)) {
			return refused
		}
		return nil
	}
	var t string
	var given []string
	for part := range strings.SplitSeq(header, ",") {
		switch name, value, _ := strings.Cut(strings.TrimSpace(part), "="); name {
		case "t":
			t = value
		case "v1": // several while a sender changes its secret
			given = append(given, value)
		}
	}
	seconds, err := strconv.ParseInt(t, 10, 64)
	if err != nil || len(given) == 0 {
		return Errorf(Denied, "%s is to be t=SECONDS,v1=HMAC, where the HMAC-SHA256, in hexadecimal, is of the seconds since 1970, a dot and the body", s.Header())
	}
	fits := false
	want := mac(secret, []byte(t+"."), body)
	for _, g := range given {
		fits = same(g, want) || fits
	}
	if !fits {
		return refused
	}
	if signed := time.Unix(seconds, 0); signed.Before(now.Add(-SignatureAge)) || signed.After(now.Add(SignatureAge)) {
		return Errorf(Denied, "the request was signed more than %g minutes before or after now, as this server's clock says: sign it when it is sent", SignatureAge.Minutes())
	}
	return nil
}

func mac(secret string, parts ...[]byte) []byte {
	h := hmac.New(sha256.New, []byte(secret))
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}

func same(given string, want []byte) bool {
	b, err := hex.DecodeString(given)
	return err == nil && hmac.Equal(b, want)
}
