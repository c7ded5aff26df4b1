package egress

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"code.dny.dev/ssrf"

	"github.com/warpket/warpket"
)

// Guard says which addresses may be dialled on behalf of strangers: public
// ones that are not this machine's own, and those that the operator allows.
// Everything else is refused: loopback, private, link-local and shared (CGNAT)
// addresses, multicast, unspecified and reserved ones, those where clouds
// answer with credentials, and IPv6 addresses that carry one of these.
type Guard struct {
	Allow []netip.Prefix // networks of the operator's that may be reached too

	own func() ([]net.Addr, error) // this machine's addresses; nil: asks the machine
}

// azure answers only the machine that asks, at an address that looks public.
var azure = netip.MustParseAddr("168.63.129.16")

// Check returns an error of kind Denied unless the address may be dialled.
func (g Guard) Check(addr netip.Addr) error {
	addr = addr.Unmap()
	if g.allows(addr) {
		return nil
	}
	if !public(addr) {
		return warpket.Errorf(warpket.Denied, "%s is not a public address; the node's operator can allow networks of their own", addr)
	}
	// A firewall lets a machine talk to itself, so a service that is closed to
	// the world would answer here.
	own, err := g.addresses()
	if err != nil {
		return fmt.Errorf("listing the addresses of this machine: %w", err)
	}
	if slices.Contains(own, addr) {
		return warpket.Errorf(warpket.Denied, "%s is the node itself", addr)
	}
	return nil
}

// allows reports whether an address is one of the operator's networks.
func (g Guard) allows(addr netip.Addr) bool {
	return slices.ContainsFunc(g.Allow, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// public reports whether an address is one of the internet.
func public(addr netip.Addr) bool {
	within := func(p netip.Prefix) bool { return p.Contains(addr) }
	switch {
	case !addr.IsValid() || addr.Zone() != "":
		return false
	case addr.Is4():
		return addr != azure && !slices.ContainsFunc(ssrf.IPv4DeniedPrefixes, within)
	case within(ssrf.IPv6NAT64Prefix): // how a network without IPv4 reaches IPv4
		bytes := addr.As16()
		return public(netip.AddrFrom4([4]byte(bytes[12:])))
	}
	return within(ssrf.IPv6GlobalUnicast) && !slices.ContainsFunc(ssrf.IPv6DeniedPrefixes, within)
}

func (g Guard) addresses() ([]netip.Addr, error) {
	list := g.own
	if list == nil {
		list = net.InterfaceAddrs
	}
	nets, err := list()
	if err != nil {
		return nil, err
	}
	addrs := make([]netip.Addr, 0, len(nets))
	for _, n := range nets {
		if prefix, err := netip.ParsePrefix(n.String()); err == nil {
			addrs = append(addrs, prefix.Addr().Unmap())
		}
	}
	return addrs, nil
}

// Dialer makes a dialer that checks the very address that it is about to dial,
// however its name was resolved.
func (g Guard) Dialer() *net.Dialer {
	return &net.Dialer{Timeout: connectTimeout, Control: g.control}
}

const connectTimeout = 10 * time.Second

func (g Guard) control(network, address string, _ syscall.RawConn) error {
	target, err := netip.ParseAddrPort(address)
	if err != nil || network != "tcp4" && network != "tcp6" {
		return warpket.Errorf(warpket.Denied, "only TCP may be dialled, not %s %s", network, address)
	}
	return g.Check(target.Addr())
}
