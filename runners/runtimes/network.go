package runtimes

import (
	"context"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/runners/egress"
	"github.com/warpket/warpket/runners/sandbox"
)

// sandboxed reports whether installers run in a network of their own.
func (s *Store) sandboxed() bool {
	return s.config.Installer.Isolation().Kind != warpket.NoIsolation.Kind
}

// network is an installer's way to the package index, and to nothing else, with
// the variables by which it finds it. One that is a plain process needs none.
func (s *Store) network(ctx context.Context) (*egress.Proxy, []string, error) {
	if !s.sandboxed() {
		return nil, nil, nil
	}
	addresses, err := s.config.Index.Addresses(ctx)
	if err != nil {
		return nil, nil, err
	}
	if s.config.IndexURL != "" {
		if u, err := url.Parse(s.config.IndexURL); err == nil {
			addresses = append(addresses, u)
		}
	}
	var policy egress.Policy
	for _, u := range addresses {
		policy.Hosts = append(policy.Hosts, u.Hostname())
		policy.Ports = append(policy.Ports, portOf(u))
	}
	proxy, err := egress.New(egress.Config{
		Policy: policy,
		// The operator has chosen the index, wherever it is.
		Guard:    egress.Guard{Allow: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}},
		Upstream: Upstream(s.config.Environ),
	})
	address := "http://" + sandbox.ListenAddress
	return proxy, []string{"HTTP_PROXY=" + address, "HTTPS_PROXY=" + address, "ALL_PROXY=" + address}, err
}

func portOf(u *url.URL) uint16 {
	if port, err := strconv.ParseUint(u.Port(), 10, 16); err == nil {
		return uint16(port)
	}
	if u.Scheme == "http" {
		return 80
	}
	return 443
}

// Upstream is the proxy by which the machine itself reaches the network.
func Upstream(environ []string) *url.URL {
	for _, name := range []string{"HTTPS_PROXY", "ALL_PROXY", "HTTP_PROXY"} {
		if u, err := url.Parse(lookUp(environ, name)); err == nil && u.Host != "" {
			return u
		}
	}
	return nil
}

// certificates are the files of authorities that the machine's environment
// names, as far as sandboxes do not have them already.
func certificates(environ []string) (paths []string) {
	for _, name := range []string{"SSL_CERT_FILE", "SSL_CERT_DIR", "PIP_CERT"} {
		path := lookUp(environ, name)
		if _, err := os.Stat(path); err == nil && filepath.IsAbs(path) && !strings.HasPrefix(path, "/etc/ssl/") && !strings.HasPrefix(path, "/usr/") {
			paths = append(paths, path)
		}
	}
	return paths
}

// lookUp finds a variable, whatever case it is in.
func lookUp(environ []string, name string) string {
	for _, variable := range environ {
		if key, value, _ := strings.Cut(variable, "="); strings.EqualFold(key, name) {
			return value
		}
	}
	return ""
}

// interpreters are the folders of this machine's interpreters that a sandbox
// does not have anyhow.
func (s *Store) interpreters() (folders []string) {
	for _, p := range s.config.Pythons {
		folders = append(folders, baseOf(p.Path)...)
	}
	return folders
}
