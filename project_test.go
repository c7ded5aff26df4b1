package warpket_test

import (
	"strings"
	"testing"
	"time"

	"github.com/warpket/warpket"
)

func TestParseToken(t *testing.T) {
	t.Parallel()
	id, secret := warpket.NewID(noon), warpket.Secret()
	gotID, gotSecret, err := warpket.ParseToken(warpket.TokenText(id, secret))
	if err != nil || gotID != id || gotSecret != secret {
		t.Fatalf("got %q, %q (%v)", gotID, gotSecret, err)
	}

	text := warpket.TokenText(id, secret)
	want := warpket.ErrBadToken().Error()
	for name, bad := range map[string]string{
		"nothing":               "",
		"the prefix alone":      "wk_",
		"no prefix":             strings.TrimPrefix(text, "wk_"),
		"another prefix":        "xk_" + strings.TrimPrefix(text, "wk_"),
		"the prefix twice":      "wk_" + text,
		"a short ID":            "wk_" + text[4:],
		"an ID that is none":    "wk_" + strings.Repeat("z", 32) + "_" + secret,
		"a short secret":        text[:len(text)-1],
		"a long secret":         text + "0",
		"a space":               text + " ",
		"an ID with its dashes": "wk_" + string(id) + "_" + secret,
		"no secret":             "wk_" + strings.ReplaceAll(string(id), "-", ""),
	} {
		_, _, err := warpket.ParseToken(bad)
		wantKind(t, err, warpket.Unauthenticated)
		if err == nil || err.Error() != want {
			t.Errorf("%s: the message tells more than that it does not hold: %v", name, err)
		}
	}
}

func TestATokenHolds(t *testing.T) {
	t.Parallel()
	secret := warpket.Secret()
	token := warpket.Token{SecretHash: warpket.HashSecret(secret)}
	if !token.Holds(secret, noon) {
		t.Error("not with its own secret")
	}
	if token.Holds(warpket.Secret(), noon) || token.Holds("", noon) || (&warpket.Token{}).Holds("", noon) {
		t.Error("with another secret")
	}
	if token.RevokedDate = &noon; token.Holds(secret, noon) {
		t.Error("though it is revoked")
	}
}

func TestATokenHoldsUntilItExpires(t *testing.T) {
	t.Parallel()
	later := noon.Add(time.Hour)
	token := warpket.Token{SecretHash: warpket.HashSecret("s"), ExpiresDate: &later}
	if !token.Holds("s", noon) || token.Holds("s", later) {
		t.Error("not until it expires, or then")
	}
}

func TestATokenActsAsTheLesserOfItsRoleAndItsMembers(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ own, member, want warpket.Role }{
		{warpket.Admin, "", warpket.Admin},
		{warpket.Admin, warpket.Viewer, warpket.Viewer},
		{warpket.Viewer, warpket.Admin, warpket.Viewer},
	} {
		token := warpket.Token{Role: test.own, MemberRole: test.member}
		if test.member != "" {
			token.Member = "ada"
		}
		if got := token.Acts(); got != test.want {
			t.Errorf("%+v acts as %s", test, got)
		}
	}
}

func TestRolesIncludeTheOnesBelow(t *testing.T) {
	t.Parallel()
	roles := []warpket.Role{warpket.Viewer, warpket.Member, warpket.Admin, warpket.Operator}
	for i, r := range roles {
		for j, other := range roles {
			if r.Includes(other) != (i >= j) {
				t.Errorf("%s includes %s: %v", r, other, r.Includes(other))
			}
		}
	}
	if warpket.Role("").Includes("") || warpket.Role("root").Valid() || warpket.Role("").Includes(warpket.Viewer) {
		t.Error("what is no role includes something")
	}
}

func TestCheckName(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"ab", "bell-state", "0x", "a-", strings.Repeat("a", 63)} {
		wantKind(t, warpket.CheckName("function", name), "")
	}
	for _, name := range []string{
		"", "a", "-a", "A", "Bell", "a_b", "a b", "a.b", "a/b", "a\n", "ab\n", "\x00ab", "é-é", "ab\u200b", strings.Repeat("a", 64), "..",
	} {
		wantKind(t, warpket.CheckName("function", name), warpket.Invalid)
	}
}
