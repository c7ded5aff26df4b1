package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/cli"
	"github.com/warpket/warpket/secrets"
)

func devCommand() *cobra.Command {
	var c config
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run all of it on this machine: the embedded default",
		Long: "Runs Postgres, an object store, Temporal with its UI, a server and a node on this machine, and does the main job once: creates a Qiskit function, deploys and executes it. Stays up until Ctrl-C and keeps everything in its data folder.\n\n" +
			"Each part is replaced by one of your own by giving its address.",
		Args: cobra.NoArgs,
	}
	external := c.external()
	for i := range external {
		external[i].needed = false
	}
	settings := slices.Concat(external, c.code(), c.wires(), c.finished(), c.keys(), c.sandbox(), c.shared())
	settings = append(settings, setting{"data", "WARPKET_DATA", &c.dev.data, ".warpket", "folder of all data", true},
		setting{"listen", "WARPKET_LISTEN", &c.listen, "", "host:port of the API; 127.0.0.1:8080, or a free port, unless set", false})
	bind(cmd, settings)
	cmd.Flags().BoolVar(&c.dev.noDemo, "no-demo", false, "do not create, deploy and execute the example function")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := mistakes(missing(settings)); err != nil {
			return err
		}
		d, err := newDev(&c)
		if err != nil {
			return err
		}
		return d.run(cmd.Context())
	}
	return cmd
}

// dev runs everything on one machine, each part as a process of its own, as
// it would run on many.
type dev struct {
	config *config
	data   string
	self   string // this program
	out    io.Writer
	kept   kept
	stack  addresses
}

// kept is what lasts from one start to the next.
type kept struct {
	OperatorToken string `json:"operatorToken"`
	SecretKey     string `json:"secretKey"`
	API           string `json:"api"`     // host:port
	Channel       string `json:"channel"` // host:port
}

// addresses are what the devstack says when it is ready.
type addresses struct {
	Postgres string `json:"postgres"`
	S3       struct {
		Endpoint  string `json:"endpoint"`
		AccessKey string `json:"accessKey"`
		SecretKey string `json:"secretKey"`
		Bucket    string `json:"bucket"`
		Region    string `json:"region"`
	} `json:"s3"`
	Temporal   string `json:"temporal"`
	TemporalUI string `json:"temporalUI"`
}

func newDev(c *config) (*dev, error) {
	data, err := filepath.Abs(c.dev.data)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return &dev{config: c, data: data, self: self, out: os.Stderr}, nil
}

func (d *dev) say(format string, args ...any) { fmt.Fprintf(d.out, format+"\n", args...) }

func (d *dev) path(elem ...string) string {
	return filepath.Join(append([]string{d.data}, elem...)...)
}

func (d *dev) run(ctx context.Context) error {
	if err := os.MkdirAll(d.path("log"), 0o711); err != nil {
		return fmt.Errorf("making the data folder: %w", err)
	}
	unlock, err := d.lock()
	if err != nil {
		return err
	}
	defer unlock()
	_ = os.Remove(d.path("dev.json")) // true only while serving
	if err := d.remember(ctx); err != nil {
		return err
	}

	// Children go in order, last started first, so they do not end with ctx.
	stack, err := d.startStack(ctx)
	if err != nil {
		return err
	}
	defer stack.stop(d.say)
	server := d.child("server", d.serverEnv())
	if err := server.start(ctx); err != nil {
		return err
	}
	defer server.stop(d.say)
	d.say("✓ server")
	node, err := d.startNode(ctx)
	if err != nil {
		return err
	}
	defer node.stop(d.say)
	d.say("✓ node")
	if err := d.announce(); err != nil {
		return err
	}
	defer func() { _ = os.Remove(d.path("dev.json")) }()

	g, live := errgroup.WithContext(ctx)
	for _, c := range []*child{stack, server, node} {
		g.Go(func() error { return c.keep(live, d.say) })
	}
	if !d.config.dev.noDemo {
		if err := d.demo(live); err != nil && live.Err() == nil {
			d.say("the example did not run: %v", err)
		}
	} else {
		d.say("serving at http://%s", d.kept.API)
	}
	err = g.Wait()
	if ctx.Err() != nil {
		d.say("\nstopping; everything is kept in %s", d.config.dev.data)
		return nil
	}
	return err
}

// lock keeps a second instance from the same data.
func (d *dev) lock() (func(), error) {
	f, err := os.OpenFile(d.path("lock-dev"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("another \"warpket dev\" uses %s: stop it, or choose another folder with --data", d.data)
	}
	return func() { _ = f.Close() }, nil
}

// remember reads what lasts, or chooses it. A kept port that somebody else has
// taken is replaced.
func (d *dev) remember(ctx context.Context) error {
	file := d.path("dev-kept.json")
	b, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(b, &d.kept)
	} else if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	if err != nil {
		return fmt.Errorf("reading %s: %w", file, err)
	}
	if d.kept.OperatorToken == "" {
		d.kept.OperatorToken = warpket.TokenText(warpket.NewID(time.Now()), warpket.Secret())
	}
	if d.kept.SecretKey == "" {
		d.kept.SecretKey = secrets.NewOperatorKey()
	}
	if d.config.listen != "" {
		if d.kept.API, err = freeAddress(ctx, d.config.listen); err != nil {
			return fmt.Errorf("--listen %s cannot be used: %w", d.config.listen, err)
		}
	} else if d.kept.API, err = firstFree(ctx, d.kept.API, "127.0.0.1:8080", "127.0.0.1:0"); err != nil {
		return err
	}
	if d.kept.Channel, err = firstFree(ctx, d.kept.Channel, "127.0.0.1:0"); err != nil {
		return err
	}
	if b, err = json.Marshal(d.kept); err != nil {
		return err
	}
	return renameio.WriteFile(file, b, 0o600)
}

func firstFree(ctx context.Context, candidates ...string) (address string, err error) {
	for _, c := range candidates {
		if c == "" {
			continue
		}
		if address, err = freeAddress(ctx, c); err == nil {
			return address, nil
		}
	}
	return "", err
}

// freeAddress reports whether an address can be listened on, with the port
// that was chosen for port 0.
func freeAddress(ctx context.Context, address string) (string, error) {
	var listen net.ListenConfig
	l, err := listen.Listen(ctx, "tcp", address)
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

func (d *dev) startNode(ctx context.Context) (*child, error) {
	env := map[string]string{"WARPKET_NODE_SERVER": d.kept.Channel, "WARPKET_NODE_DIR": d.path("node"), "WARPKET_NODE_NAME": "local"}
	for _, s := range d.config.sandbox() {
		env[s.variable] = *s.field
	}
	if _, err := os.Stat(d.path("node", "identity.json")); errors.Is(err, os.ErrNotExist) {
		token, err := d.joinToken(ctx)
		if err != nil {
			return nil, err
		}
		env["WARPKET_JOIN_TOKEN"] = token
	}
	node := d.child("node", env)
	return node, node.start(ctx)
}

func (d *dev) joinToken(ctx context.Context) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+d.kept.API+"/v1/nodes/tokens", bytes.NewReader(nil))
	if err != nil {
		return "", err
	}
	req.Header.Set("Authorization", "Bearer "+d.kept.OperatorToken)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", fmt.Errorf("asking for a node token: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	var out struct{ Token, Detail string }
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil || out.Token == "" {
		return "", fmt.Errorf("asking for a node token: %s %s", resp.Status, out.Detail)
	}
	return out.Token, nil
}

// serverEnv is the configuration of the server.
func (d *dev) serverEnv() map[string]string {
	a, c := d.stack, d.config
	key := c.secret.key
	if key == "" && c.secret.file == "" {
		key = d.kept.SecretKey
	}
	env := map[string]string{
		"WARPKET_POSTGRES_URL": a.Postgres, "WARPKET_S3_ENDPOINT": a.S3.Endpoint, "WARPKET_S3_ACCESS_KEY": a.S3.AccessKey, "WARPKET_S3_SECRET_KEY": a.S3.SecretKey,
		"WARPKET_S3_BUCKET": a.S3.Bucket, "WARPKET_S3_REGION": a.S3.Region, "WARPKET_TEMPORAL_ADDRESS": a.Temporal, "WARPKET_TEMPORAL_UI": a.TemporalUI,
		"WARPKET_TEMPORAL_EXECUTION_NAMESPACE": c.temporal.executions, "WARPKET_TEMPORAL_DEPLOYMENT_NAMESPACE": c.temporal.deployments,
		"WARPKET_TEMPORAL_CA": c.temporal.ca, "WARPKET_TEMPORAL_CERTIFICATE": c.temporal.certificate, "WARPKET_TEMPORAL_KEY": c.temporal.key,
		"WARPKET_LISTEN": d.kept.API, "WARPKET_CHANNEL_LISTEN": d.kept.Channel, "WARPKET_OPERATOR_TOKEN": d.kept.OperatorToken,
		"WARPKET_SECRET_KEY": key, "WARPKET_SECRET_KEY_FILE": c.secret.file,
		"WARPKET_ALLOW_SOURCES": c.sources.allow, "WARPKET_SOURCE_BUCKETS": c.sources.buckets,
	}
	for _, s := range append(c.wires(), c.finished()...) {
		env[s.variable] = *s.field
	}
	return env
}

// announce writes dev.json: where everything is, for scripts.
func (d *dev) announce() error {
	s3, err := url.Parse(d.stack.S3.Endpoint)
	if err != nil {
		return err
	}
	s3.User = url.UserPassword(d.stack.S3.AccessKey, d.stack.S3.SecretKey)
	s3.Path = "/" + d.stack.S3.Bucket
	b, err := json.MarshalIndent(map[string]any{
		"api": "http://" + d.kept.API, "temporalUI": d.stack.TemporalUI, "s3": s3.String(), "postgres": d.stack.Postgres,
		"token": d.kept.OperatorToken, "pid": os.Getpid(),
	}, "", "  ")
	if err != nil {
		return err
	}
	return renameio.WriteFile(d.path("dev.json"), append(b, '\n'), 0o600)
}

func (d *dev) demo(ctx context.Context) error {
	return cli.Demo(ctx, os.Stdout, term.IsTerminal(int(os.Stdout.Fd())), "http://"+d.kept.API, d.kept.OperatorToken, cli.DemoInfo{
		TokenFile: filepath.Join(d.config.dev.data, "dev.json"), TemporalUI: d.stack.TemporalUI, Data: d.config.dev.data, Plain: surroundings().Plain, Command: os.Args[0],
	})
}

// report tells the parent, on standard output, that this process serves.
var report = sync.OnceValue(func() func(map[string]string) {
	out := json.NewEncoder(os.Stdout)
	return func(fields map[string]string) { _ = out.Encode(map[string]any{"ready": fields}) } // a dead parent is seen on standard input
})()
