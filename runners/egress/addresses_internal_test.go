package egress

import (
	"net"
	"net/netip"
	"testing"

	"github.com/warpket/warpket"
)

func TestOnlyAddressesOfTheInternetMayBeDialled(t *testing.T) {
	t.Parallel()
	guard := Guard{
		Allow: []netip.Prefix{netip.MustParsePrefix("10.7.0.0/16"), netip.MustParsePrefix("fd07::/16")},
		own: func() ([]net.Addr, error) {
			return []net.Addr{&net.IPNet{IP: net.ParseIP("8.8.4.4"), Mask: net.CIDRMask(24, 32)}}, nil
		},
	}
	tests := map[string]struct {
		addresses []string
		allowed   bool
	}{
		"public":                     {[]string{"1.1.1.1", "8.8.8.8", "2606:4700::1111"}, true},
		"the operator's own":         {[]string{"10.7.0.1", "::ffff:10.7.0.1", "fd07::1"}, true},
		"public, by NAT64":           {[]string{"64:ff9b::8.8.8.8", "::ffff:1.1.1.1"}, true},
		"the node's own":             {[]string{"8.8.4.4", "::ffff:8.8.4.4"}, false},
		"loopback":                   {[]string{"127.0.0.1", "127.255.0.1", "::1"}, false},
		"private":                    {[]string{"10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1"}, false},
		"unique local":               {[]string{"fc00::1", "fd00:ec2::254", "fec0::1"}, false},
		"link-local":                 {[]string{"169.254.169.254", "169.254.170.2", "fe80::1", "fe80::1%eth0"}, false},
		"shared":                     {[]string{"100.64.0.1", "100.100.100.200", "100.127.255.255"}, false},
		"unspecified":                {[]string{"0.0.0.0", "0.1.2.3", "::"}, false},
		"multicast":                  {[]string{"224.0.0.1", "239.1.1.1", "ff02::1"}, false},
		"reserved":                   {[]string{"240.0.0.1", "255.255.255.255", "192.0.0.192", "198.18.0.1", "192.0.2.1", "2001:db8::1", "100::1", "4000::1"}, false},
		"a cloud's credentials":      {[]string{"168.63.129.16", "::ffff:168.63.129.16"}, false},
		"private, in IPv6":           {[]string{"::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "::ffff:0:127.0.0.1"}, false},
		"private, by NAT64":          {[]string{"64:ff9b::127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::10.0.0.1"}, false},
		"by 6to4, Teredo and ORCHID": {[]string{"2002:7f00:1::", "2002:a9fe:a9fe::1", "2001::1", "2001:10::1"}, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, address := range test.addresses {
				err := guard.Check(netip.MustParseAddr(address))
				if test.allowed && err != nil || !test.allowed && warpket.KindOf(err) != warpket.Denied {
					t.Errorf("%s: %v", address, err)
				}
			}
		})
	}
	if err := guard.Check(netip.Addr{}); warpket.KindOf(err) != warpket.Denied {
		t.Errorf("no address: %v", err)
	}
}

func TestADialerChecksTheAddressThatItDials(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"127.0.0.1", "localhost", "0.0.0.0", "::ffff:127.0.0.1"} {
		if c, err := (Guard{}).Dialer().DialContext(t.Context(), "tcp", net.JoinHostPort(host, port)); warpket.KindOf(err) != warpket.Denied {
			t.Errorf("%s: %v, %v", host, c, err)
		}
	}
	allowed := Guard{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	c, err := allowed.Dialer().DialContext(t.Context(), "tcp", net.JoinHostPort("127.0.0.1", port))
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	if c, err := allowed.Dialer().DialContext(t.Context(), "udp", net.JoinHostPort("127.0.0.1", port)); warpket.KindOf(err) != warpket.Denied {
		t.Errorf("udp: %v, %v", c, err)
	}
}
