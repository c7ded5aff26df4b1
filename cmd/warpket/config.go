package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/git"
	"github.com/warpket/warpket/runners/egress"
	"github.com/warpket/warpket/runners/image"
	"github.com/warpket/warpket/runners/runtimes"
	"github.com/warpket/warpket/secrets"
	"github.com/warpket/warpket/sources"
)

// config is all that can be set. Each setting is a flag and a variable
// WARPKET_...; the flag wins.
type config struct {
	postgres string
	s3       struct{ endpoint, accessKey, secretKey, bucket, region string }
	temporal struct{ address, executions, deployments, ui, ca, certificate, key string }
	listen   string
	channel  struct{ listen, address, peer string }
	token    string
	audit    string
	proxies  string
	secret   struct{ key, file string }
	index    string
	cache    string
	log      string
	images   struct{ allow, space string }
	sources  struct{ allow, buckets string }
	node     struct{ server, joinToken, name, dir, isolation, runsc, require, free, simulate string }
	egress   struct{ hosts, ports, networks string }
	callback struct{ networks, http string }
	retain   string
	qinling  struct{ open string }
	dev      struct {
		data   string
		noDemo bool
	}
	watch bool // end when standard input does: a parent holds it open
}

// setting ties a field of config to its flag and variable.
type setting struct {
	flag, variable string
	field          *string
	initial, usage string
	needed         bool
}

// bind adds flags for settings to a command. Secrets have no flag, for flags
// show in lists of processes.
func bind(c *cobra.Command, settings []setting) {
	for _, s := range settings {
		*s.field = s.initial
		if v, ok := os.LookupEnv(s.variable); ok {
			*s.field = v
		}
		if s.flag != "" {
			c.Flags().StringVar(s.field, s.flag, *s.field, s.usage+" ($"+s.variable+")")
			c.Flags().Lookup(s.flag).DefValue = s.initial
		}
	}
}

// serviceCommand makes a command that runs until it is told to stop.
func serviceCommand(cmd *cobra.Command, c *config, settings []setting, run func(context.Context, *config, *slog.Logger) error) *cobra.Command {
	bind(cmd, settings)
	cmd.Flags().BoolVar(&c.watch, "watch-stdin", false, "end when standard input does, and report there when ready")
	_ = cmd.Flags().MarkHidden("watch-stdin")
	cmd.Args = cobra.NoArgs
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := mistakes(missing(settings)); err != nil {
			return err
		}
		log, err := c.logger()
		if err != nil {
			return err
		}
		ctx, cancel := watched(cmd.Context(), c.watch)
		defer cancel()
		if os.Getenv("GOGC") == "" {
			debug.SetGCPercent(400) // little of what a call allocates lives on: a tenth of its processor time for some 50 MiB
		}
		return run(ctx, c, log)
	}
	return cmd
}

// watched ends a context when standard input ends, if asked to.
func watched(ctx context.Context, watch bool) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	if watch {
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			cancel()
		}()
	}
	return ctx, cancel
}

// missing reports the settings that are needed and not there.
func missing(settings []setting) (list []error) {
	for _, s := range settings {
		if s.needed && *s.field == "" {
			how := s.variable
			if s.flag != "" {
				how = "--" + s.flag + " or " + how
			}
			list = append(list, fmt.Errorf("%s: set %s", s.usage, how))
		}
	}
	return list
}

func (c *config) external() []setting {
	return []setting{
		{"", "WARPKET_POSTGRES_URL", &c.postgres, "", "URL of Postgres, postgres://USER:PASSWORD@HOST:PORT/DATABASE", true},
		{"s3-endpoint", "WARPKET_S3_ENDPOINT", &c.s3.endpoint, "", "URL of the object store", true},
		{"", "WARPKET_S3_ACCESS_KEY", &c.s3.accessKey, "", "access key of the object store", true},
		{"", "WARPKET_S3_SECRET_KEY", &c.s3.secretKey, "", "secret key of the object store", true},
		{"s3-bucket", "WARPKET_S3_BUCKET", &c.s3.bucket, "warpket", "bucket of the object store", true},
		{"s3-region", "WARPKET_S3_REGION", &c.s3.region, "us-east-1", "region of the object store", false},
		{"temporal", "WARPKET_TEMPORAL_ADDRESS", &c.temporal.address, "", "host:port of Temporal's frontend", true},
		{"temporal-ui", "WARPKET_TEMPORAL_UI", &c.temporal.ui, "", "URL of the Temporal UI, for links", false},
		{"temporal-executions", "WARPKET_TEMPORAL_EXECUTION_NAMESPACE", &c.temporal.executions, "warpket-executions", "Temporal namespace of executions", true},
		{"temporal-deployments", "WARPKET_TEMPORAL_DEPLOYMENT_NAMESPACE", &c.temporal.deployments, "warpket-deployments", "Temporal namespace of deployments and runtimes", true},
		{"temporal-ca", "WARPKET_TEMPORAL_CA", &c.temporal.ca, "", "file with the authorities that Temporal's certificate is checked against; turns TLS on", false},
		{"temporal-certificate", "WARPKET_TEMPORAL_CERTIFICATE", &c.temporal.certificate, "", "file with the client certificate for Temporal", false},
		{"temporal-key", "WARPKET_TEMPORAL_KEY", &c.temporal.key, "", "file with the key of the client certificate", false},
	}
}

func (c *config) server() []setting {
	return append(c.external(),
		setting{"listen", "WARPKET_LISTEN", &c.listen, "127.0.0.1:8080", "host:port of the API", true},
		setting{"channel-listen", "WARPKET_CHANNEL_LISTEN", &c.channel.listen, "127.0.0.1:8081", "host:port where nodes connect", true},
		setting{"channel-address", "WARPKET_CHANNEL_ADDRESS", &c.channel.address, "", "host:port by which nodes reach this server; servers may share one; that of --channel-listen unless set", false},
		setting{"channel-peer-address", "WARPKET_CHANNEL_PEER_ADDRESS", &c.channel.peer, "", "host:port by which other servers reach this one and no other; that of --channel-listen unless set", false},
		setting{"", "WARPKET_OPERATOR_TOKEN", &c.token, "", "an operator's token, wk_..., that is to hold from the start", false},
		setting{"audit-days", "WARPKET_AUDIT_DAYS", &c.audit, "400", "days for which the audit is kept; 0 for ever", true},
		setting{"trusted-proxies", "WARPKET_TRUSTED_PROXIES", &c.proxies, "", "networks of proxies before this server, such as 10.1.0.0/16, with commas: their X-Forwarded-For says where a request comes from", false},
	)
}

// code is where functions may come from.
func (c *config) code() []setting {
	return []setting{
		{"allow-sources", "WARPKET_ALLOW_SOURCES", &c.sources.allow, "", "networks of your own whose Git hosts and object stores functions may come from, such as 10.1.0.0/16, with commas; those of the internet may always be asked", false},
		{"", "WARPKET_SOURCE_BUCKETS", &c.sources.buckets, "", "buckets that functions of all projects may come from, https://[ACCESSKEY:SECRETKEY@]HOST[:PORT]/BUCKET[?region=REGION], with commas", false},
	}
}

// finished is what becomes of executions once they are final.
func (c *config) finished() []setting {
	return []setting{
		{"allow-callbacks", "WARPKET_ALLOW_CALLBACKS", &c.callback.networks, "", "networks of your own that callbacks may reach, such as 10.1.0.0/16, with commas; the internet they may always", false},
		{"callback-http", "WARPKET_CALLBACK_HTTP", &c.callback.http, "", "any value: callbacks may go to URLs without TLS", false},
		{"execution-retention", "WARPKET_EXECUTION_RETENTION", &c.retain, "0", "days for which executions are kept; then they go, by whole months; 0 keeps them all", true},
	}
}

// wires are the APIs of other systems.
func (c *config) wires() []setting {
	return []setting{
		{"qinling-open", "WARPKET_QINLING_OPEN", &c.qinling.open, "", "any value: whoever sends \"notused\" as the token on Qinling's wire, as the openstack command line does without authentication, is the operator of $WARPKET_OPERATOR_TOKEN", false},
	}
}

// keys are those for secrets.
func (c *config) keys() []setting {
	return []setting{
		{"", "WARPKET_SECRET_KEY", &c.secret.key, "", "key for secrets, 32 bytes in base64; with commas between several, of which the first is used for what is new", false},
		{"secret-key-file", "WARPKET_SECRET_KEY_FILE", &c.secret.file, "", "file with the key for secrets, instead of $WARPKET_SECRET_KEY", false},
	}
}

func (c *config) shared() []setting {
	return []setting{
		{"python-index", "WARPKET_PYTHON_INDEX", &c.index, "", "URL of the Python package index (simple API); the public one unless set", false},
		{"cache", "WARPKET_CACHE", &c.cache, "", "folder for runtimes and downloads, which several instances may share; the user's cache folder unless set", false},
		{"allow-registries", "WARPKET_ALLOW_REGISTRIES", &c.images.allow, "", "networks of your own whose registries images may come from, such as 10.1.0.0/16, with commas; those of the internet may always be asked", false},
		{"log-level", "WARPKET_LOG_LEVEL", &c.log, "info", "debug, info, warn or error", false},
	}
}

// sandbox is what a node holds its functions to.
func (c *config) sandbox() []setting {
	return []setting{
		{"isolation", "WARPKET_ISOLATION", &c.node.isolation, "namespaces", "what keeps functions apart: namespaces, gvisor or none", true},
		{"runsc", "WARPKET_RUNSC", &c.node.runsc, "runsc", "gVisor's program, for --isolation gvisor", true},
		{"egress-hosts", "WARPKET_EGRESS_HOSTS", &c.egress.hosts, "", "hosts that functions with a network may reach, separated by commas: names, *.NAME, addresses; all public ones unless set", false},
		{"egress-ports", "WARPKET_EGRESS_PORTS", &c.egress.ports, "80,443", "ports that they may reach, separated by commas", true},
		{"egress-networks", "WARPKET_EGRESS_NETWORKS", &c.egress.networks, "", "networks that are not public and that they may reach all the same, as prefixes separated by commas", false},
		{"image-space", "WARPKET_IMAGE_SPACE", &c.images.space, "20", "GiB for unpacked images; above it those go that nobody has used for longest", true},
		{"free-space", "WARPKET_FREE_SPACE", &c.node.free, "2", "GiB of the disk that stay free: before a runtime is installed, those go that nobody has used for longest", true},
		{"require-isolation", "WARPKET_REQUIRE_ISOLATION", &c.node.require, "", "any value: do not run on a machine that cannot hold all of it", false},
	}
}

func (c *config) agent() []setting {
	return []setting{
		{"server", "WARPKET_NODE_SERVER", &c.node.server, "", "host:port of the node channel of any server", true},
		{"", "WARPKET_JOIN_TOKEN", &c.node.joinToken, "", "one-time token, when the node joins", false},
		{"name", "WARPKET_NODE_NAME", &c.node.name, "", "name to join under; the host's unless set", false},
		{"simulate-devices", "WARPKET_SIMULATE_DEVICES", &c.node.simulate, "", "YAML or JSON file of devices that the node is to report without having them, to try out placement: no code runs on them", false},
		{"dir", "WARPKET_NODE_DIR", &c.node.dir, "", "folder of the node", true},
	}
}

// keyring is the operator's keys for secrets; it may be empty.
func (c *config) keyring() (secrets.Keyring, error) {
	text := c.secret.key
	if c.secret.file != "" {
		if text != "" {
			return secrets.Keyring{}, errors.New("the key for secrets: set WARPKET_SECRET_KEY or WARPKET_SECRET_KEY_FILE, not both")
		}
		b, err := os.ReadFile(c.secret.file)
		if err != nil {
			return secrets.Keyring{}, fmt.Errorf("reading the key for secrets: %w", err)
		}
		text = string(b)
	}
	return secrets.ParseKeyring(text)
}

// registries are what images may be asked of, and how much room they have.
func (c *config) registries() (image.Config, error) {
	out := image.Config{Platform: runtime.GOOS + "/" + runtime.GOARCH, Upstream: runtimes.Upstream(os.Environ())}
	var err error
	out.Guard.Allow, err = networks(c.images.allow, "--allow-registries or WARPKET_ALLOW_REGISTRIES")
	return out, err
}

// networks reads a list of networks from a setting.
func networks(text, setting string) (out []netip.Prefix, err error) {
	for _, text := range listed(text) {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("%q is not a network such as 10.1.0.0/16: set %s", text, setting)
		}
		out = append(out, prefix.Masked())
	}
	return out, nil
}

// fetcher fetches the files of functions from elsewhere.
func (c *config) fetcher() (sources.Fetcher, error) {
	allow, err := networks(c.sources.allow, "--allow-sources or WARPKET_ALLOW_SOURCES")
	if err != nil {
		return sources.Fetcher{}, err
	}
	transport := egress.Guard{Allow: allow}.Transport(runtimes.Upstream(os.Environ()))
	out := sources.Fetcher{
		Repositories: git.Fetcher{Transport: transport, Plain: allow},
		Objects:      sources.Objects{Transport: transport, Own: sources.Bucket{Name: c.s3.bucket, ObjectAuth: warpket.ObjectAuth{Endpoint: c.s3.endpoint}}},
	}
	for _, text := range listed(c.sources.buckets) {
		b, err := sources.ParseBucket(text)
		if err != nil {
			return out, fmt.Errorf("WARPKET_SOURCE_BUCKETS: %w", err)
		}
		out.Objects.Buckets = append(out.Objects.Buckets, b)
	}
	if err := out.Objects.Check(); err != nil {
		return out, fmt.Errorf("WARPKET_SOURCE_BUCKETS: %w", err)
	}
	return out, nil
}

// callbacks is what callbacks are sent by.
func (c *config) callbacks() (http.RoundTripper, error) {
	allow, err := networks(c.callback.networks, "--allow-callbacks or WARPKET_ALLOW_CALLBACKS")
	return egress.Guard{Allow: allow}.Transport(runtimes.Upstream(os.Environ())), err
}

// retention is how long executions are kept; 0 for ever.
func (c *config) retention() (time.Duration, error) {
	days, err := strconv.ParseUint(c.retain, 10, 16)
	if err != nil || days > 36500 {
		return 0, fmt.Errorf("the retention of executions is a number of days, or 0, not %q: set --execution-retention or WARPKET_EXECUTION_RETENTION", c.retain)
	}
	return time.Duration(days) * 24 * time.Hour, nil
}

// trustedProxies are the networks whose X-Forwarded-For is believed.
func (c *config) trustedProxies() ([]netip.Prefix, error) {
	return networks(c.proxies, "--trusted-proxies or WARPKET_TRUSTED_PROXIES")
}

// keepAudit is for how long the audit is kept; 0 is for ever.
func (c *config) keepAudit() (time.Duration, error) {
	days, err := strconv.Atoi(c.audit)
	if err != nil || days < 0 || days > 36500 {
		return 0, fmt.Errorf("the audit is kept for a number of days, 0 for ever, not %q: set --audit-days or WARPKET_AUDIT_DAYS", c.audit)
	}
	return time.Duration(days) * 24 * time.Hour, nil
}

// imageSpace is how many bytes unpacked images may have together.
func (c *config) imageSpace() (int64, error) {
	gib, err := strconv.ParseInt(c.images.space, 10, 32)
	if err != nil || gib < 1 {
		return 0, fmt.Errorf("the space for images is a number of GiB from 1, not %q: set --image-space or WARPKET_IMAGE_SPACE", c.images.space)
	}
	return gib << 30, nil
}

// freeSpace is how many bytes of the disk are to stay free.
func (c *config) freeSpace() (int64, error) {
	gib, err := strconv.ParseInt(c.node.free, 10, 32)
	if err != nil || gib < 0 {
		return 0, fmt.Errorf("the space that stays free is a number of GiB, not %q: set --free-space or WARPKET_FREE_SPACE", c.node.free)
	}
	return gib << 30, nil
}

// logger writes one line for each event to standard error.
func (c *config) logger() (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.log)); err != nil {
		return nil, fmt.Errorf("the log level %q is none of debug, info, warn and error", c.log)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level})), nil
}

// cacheDir is the folder for what can be fetched or built again.
func (c *config) cacheDir(fallback string) string {
	if c.cache != "" {
		return c.cache
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return filepath.Join(fallback, "cache")
	}
	return filepath.Join(dir, "warpket")
}

// temporalTLS is nil when Temporal is to be reached without TLS.
func (c *config) temporalTLS() (*tls.Config, error) {
	t := c.temporal
	if t.ca == "" && t.certificate == "" {
		return nil, nil
	}
	out := &tls.Config{MinVersion: tls.VersionTLS12}
	if t.ca != "" {
		pem, err := os.ReadFile(t.ca)
		if err != nil {
			return nil, fmt.Errorf("reading the authorities for Temporal: %w", err)
		}
		out.RootCAs = x509.NewCertPool()
		if !out.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificates", t.ca)
		}
	}
	if (t.certificate == "") != (t.key == "") {
		return nil, errors.New("a client certificate for Temporal needs both --temporal-certificate and --temporal-key")
	}
	if t.certificate != "" {
		pair, err := tls.LoadX509KeyPair(t.certificate, t.key)
		if err != nil {
			return nil, fmt.Errorf("reading the client certificate for Temporal: %w", err)
		}
		out.Certificates = []tls.Certificate{pair}
	}
	return out, nil
}

// reachable is the address of a listener as others reach it.
func reachable(l net.Listener) string {
	host, port, err := net.SplitHostPort(l.Addr().String())
	if ip := net.ParseIP(host); err == nil && ip != nil && ip.IsUnspecified() {
		if name, err := os.Hostname(); err == nil {
			return net.JoinHostPort(name, port)
		}
	}
	return l.Addr().String()
}
