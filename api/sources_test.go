package api_test

import (
	"net/netip"
	"testing"

	"github.com/warpket/warpket/git"
	"github.com/warpket/warpket/runners/egress"
	"github.com/warpket/warpket/sources"
)

// elsewhere fetches from this machine, as if it was somewhere else.
func elsewhere(t *testing.T) sources.Fetcher {
	t.Helper()
	here := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	transport := egress.Guard{Allow: here}.Transport(nil)
	return sources.Fetcher{Repositories: git.Fetcher{Transport: transport, Plain: here}, Objects: sources.Objects{Transport: transport}}
}
