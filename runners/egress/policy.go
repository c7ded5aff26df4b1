package egress

import (
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/warpket/warpket"
)

// Policy says where a sandbox's program may connect to. Whatever it says, the
// Guard decides about addresses. It is about where bytes go, not about what
// they say: a host that serves several names can be asked for any of them.
type Policy struct {
	Public bool     // any host
	Hosts  []string // else these: names, "*.example.org" for all names below that one, addresses
	Ports  []uint16 // empty: 80 and 443, the ports of HTTP
}

// target is where a program wants to connect to.
type target struct {
	host string     // a name in lower case, or an address in its usual form
	addr netip.Addr // valid if host is one
	port uint16
}

func (t target) String() string {
	return net.JoinHostPort(t.host, strconv.Itoa(int(t.port)))
}

var (
	nameForm = regexp.MustCompile(`^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*$`)
	// numberForm is a last label that some resolvers take for an IPv4 address
	// in one of its forgotten notations: 127.1, 0x7f.1, 2130706433.
	numberForm = regexp.MustCompile(`(^|\.)([0-9]+|0x[0-9a-f]*)$`)
)

// hostOf reads a host. An address may have one notation only, so that nobody
// takes it for another one.
func hostOf(host string) (string, netip.Addr, error) {
	name := strings.TrimSuffix(strings.ToLower(host), ".")
	if addr, err := netip.ParseAddr(name); err == nil && addr.Zone() == "" {
		addr = addr.Unmap()
		return addr.String(), addr, nil
	}
	if numberForm.MatchString(name) {
		return "", netip.Addr{}, warpket.Errorf(warpket.Invalid, "%+q is not the usual form of an address: write four decimal numbers", host)
	}
	if len(name) > 253 || !nameForm.MatchString(name) {
		return "", netip.Addr{}, warpket.Errorf(warpket.Invalid, "%+q is not the name of a host, nor an address", host)
	}
	return name, netip.Addr{}, nil
}

// targetOf reads host:port, or host alone for a scheme with a port of its own.
func targetOf(authority string, port uint16) (target, error) {
	host, portText, err := net.SplitHostPort(authority)
	switch {
	case err != nil && port == 0:
		return target{}, warpket.Errorf(warpket.Invalid, "%+q does not say where to connect to: use host:port", authority)
	case err != nil:
		host = strings.TrimSuffix(strings.TrimPrefix(authority, "["), "]")
	default:
		n, err := strconv.ParseUint(portText, 10, 16)
		if err != nil || n == 0 {
			return target{}, warpket.Errorf(warpket.Invalid, "%+q is not a port: use a number from 1 to 65535", portText)
		}
		port = uint16(n)
	}
	name, addr, err := hostOf(host)
	if err != nil {
		return target{}, err
	}
	return target{host: name, addr: addr, port: port}, nil
}

// normal checks what a policy lists, and gives it the form that targets have.
func (p Policy) normal() (Policy, error) {
	hosts := make([]string, 0, len(p.Hosts))
	for _, host := range p.Hosts {
		suffix, wildcard := strings.CutPrefix(host, "*.")
		name, addr, err := hostOf(suffix)
		if err != nil || wildcard && addr.IsValid() {
			return Policy{}, warpket.Errorf(warpket.Invalid, "%+q cannot be a host to allow: use a name, *.name or an address, without a port", host)
		}
		if wildcard {
			name = "*." + name
		}
		hosts = append(hosts, name)
	}
	p.Hosts = hosts
	if len(p.Ports) == 0 {
		p.Ports = []uint16{80, 443}
	}
	return p, nil
}

// check returns an error of kind Denied that says what is allowed instead.
func (p Policy) check(t target) error {
	if !slices.Contains(p.Ports, t.port) {
		ports := make([]string, len(p.Ports))
		for i, port := range p.Ports {
			ports[i] = strconv.Itoa(int(port))
		}
		return warpket.Errorf(warpket.Denied, "port %d may not be reached; allowed: %s", t.port, strings.Join(ports, ", "))
	}
	if p.Public || slices.ContainsFunc(p.Hosts, t.matches) {
		return nil
	}
	if len(p.Hosts) == 0 {
		return warpket.Errorf(warpket.Denied, "%s may not be reached; no host is allowed", t.host)
	}
	some, more := p.Hosts, ""
	if len(some) > 10 {
		some, more = some[:10], ", ..."
	}
	return warpket.Errorf(warpket.Denied, "%s may not be reached; allowed: %s%s", t.host, strings.Join(some, ", "), more)
}

func (t target) matches(pattern string) bool {
	if suffix, ok := strings.CutPrefix(pattern, "*"); ok {
		return !t.addr.IsValid() && strings.HasSuffix(t.host, suffix)
	}
	return t.host == pattern
}
