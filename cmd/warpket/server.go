package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/api"
	"github.com/warpket/warpket/api/qinling"
	"github.com/warpket/warpket/channel"
	"github.com/warpket/warpket/live"
	"github.com/warpket/warpket/metrics"
	"github.com/warpket/warpket/pypi"
	"github.com/warpket/warpket/runners/image"
	"github.com/warpket/warpket/secrets"
	"github.com/warpket/warpket/storage/blob"
	"github.com/warpket/warpket/storage/postgres"
	"github.com/warpket/warpket/templates"
	"github.com/warpket/warpket/workflows"
)

// idleSlot is after how long without a call a slot on demand is given back.
const idleSlot = 5 * time.Minute

func serverCommand() *cobra.Command {
	var c config
	return serviceCommand(&cobra.Command{
		Use:   "server",
		Short: "Run a server: the API, its workflows and the node channel",
		Long:  "Runs one server. It keeps nothing itself: run as many as you like on the same Postgres, object store and Temporal.",
	}, &c, slices.Concat(c.server(), c.code(), c.wires(), c.finished(), c.keys(), c.shared()), runServer)
}

func runServer(ctx context.Context, c *config, log *slog.Logger) error {
	tls, err := c.temporalTLS()
	if err != nil {
		return err
	}
	keys, err := c.keyring()
	if err != nil {
		return err
	}
	proxies, err := c.trustedProxies()
	if err != nil {
		return err
	}
	keepAudit, err := c.keepAudit()
	if err != nil {
		return err
	}
	store, err := postgres.Open(ctx, c.postgres)
	if err != nil {
		return err
	}
	defer store.Close()
	if err := seed(ctx, store, c.token); err != nil {
		return err
	}
	blobs, err := blob.New(blob.Config{Endpoint: c.s3.endpoint, AccessKey: c.s3.accessKey, SecretKey: c.s3.secretKey, Bucket: c.s3.bucket, Region: c.s3.region})
	if err != nil {
		return err
	}
	if err := blobs.Ready(ctx); err != nil {
		return err
	}
	catalog, err := templates.New(pypi.New(pypi.Config{URL: c.index, CacheDir: c.cacheDir(os.TempDir()) + "/index"}), runtime.GOARCH)
	if err != nil {
		return err
	}
	registries, err := c.registries()
	if err != nil {
		return err
	}
	images, err := image.NewRegistries(registries)
	if err != nil {
		return err
	}
	fetcher, err := c.fetcher()
	if err != nil {
		return err
	}
	callbacks, err := c.callbacks()
	if err != nil {
		return err
	}
	retention, err := c.retention()
	if err != nil {
		return err
	}
	authority, err := authority(ctx, store)
	if err != nil {
		return err
	}
	temporal, err := workflows.Connect(ctx, workflows.Temporal{
		Address: c.temporal.address, ExecutionNamespace: c.temporal.executions, DeploymentNamespace: c.temporal.deployments, UI: c.temporal.ui, TLS: tls,
	}, log)
	if err != nil {
		return err
	}
	defer temporal.Close()

	var listen net.ListenConfig
	nodes, err := listen.Listen(ctx, "tcp", c.channel.listen)
	if err != nil {
		return fmt.Errorf("listening for nodes: %w", err)
	}
	front, err := listen.Listen(ctx, "tcp", c.listen)
	if err != nil {
		return fmt.Errorf("listening for requests: %w", err)
	}
	if c.channel.address == "" {
		c.channel.address = reachable(nodes)
	}
	if c.channel.peer == "" {
		c.channel.peer = reachable(nodes)
	}

	measured := metrics.New(levels(store))
	vault := secrets.New(keys, store)
	id, hub := warpket.NewID(time.Now()), live.New()
	activities := workflows.New(workflows.Config{ServerID: id, Store: store, Blobs: blobs, Hub: hub, Catalog: catalog, Secrets: vault, Client: temporal, Now: now, IdleSlot: idleSlot, Callbacks: callbacks, Retention: retention, Metrics: measured, Log: log})
	fleet := &workflows.Fleet{Activities: activities, Server: postgres.Server{ID: id, Channel: c.channel.address, Peer: c.channel.peer}, KeepAudit: keepAudit}
	node := channel.NewServer(id, authority, fleet, log)
	activities.Nodes = node
	wires := map[string]api.Wire{qinling.Prefix: qinling.New(qinling.Config{NotUsed: notUsed(c)})}
	handler := api.New(api.Config{
		ServerID: id, Store: store, Blobs: blobs, Catalog: catalog, Hub: hub, Secrets: vault, Nodes: node, Authority: authority, Workflows: temporal,
		Fleet: fleetOf{activities, fleet}, Images: images, Fetcher: fetcher, Wires: wires, Platform: runtime.GOOS + "/" + runtime.GOARCH, PlainHTTP: c.callback.http != "", Now: now, Log: log, TrustedProxies: proxies, Metrics: measured,
	}).Handler()

	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return node.Serve(ctx, nodes) })
	g.Go(func() error { return fleet.Run(ctx) })
	g.Go(func() error { return temporal.RunWorkers(ctx, activities) })
	g.Go(func() error { return serveHTTP(ctx, front, handler, log) })
	if c.watch {
		report(map[string]string{"api": front.Addr().String(), "channel": c.channel.address})
	}
	log.Info("serving", "api", front.Addr(), "channel", c.channel.address, "release", release())
	err = g.Wait()
	gone, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	return errors.Join(err, store.DropServer(gone, id))
}

// fleetOf is what the API asks of the fleet.
type fleetOf struct {
	*workflows.Activities
	fleet *workflows.Fleet
}

func (f fleetOf) ReleaseAll(ctx context.Context, project warpket.ID, left postgres.Deleted) {
	f.fleet.ReleaseAll(ctx, project, left)
}

func (f fleetOf) ScheduleChanged(ctx context.Context, id warpket.ID) {
	f.fleet.ScheduleChanged(ctx, id)
}

func (f fleetOf) Fence(ctx context.Context, node warpket.ID) (warpket.Node, error) {
	return f.fleet.Fence(ctx, node)
}

func (f fleetOf) FollowLog(ctx context.Context, e warpket.Execution) { f.fleet.FollowLog(ctx, e) }

// levels are what a scrape of the metrics reads.
func levels(store *postgres.Store) func(context.Context) ([]metrics.Level, error) {
	return func(ctx context.Context) (list []metrics.Level, err error) {
		slots, nodes, executions, err := store.Levels(ctx)
		for name, counts := range map[string]map[string]int{"slots": slots, "nodes": nodes, "open_executions": executions} {
			for status, n := range counts {
				list = append(list, metrics.Level{Name: name, Label: status, Value: float64(n)})
			}
		}
		return list, err
	}
}

func now() time.Time { return time.Now().UTC() }

// seed makes what an empty database needs: the default project, and the
// operator's token that was given.
func seed(ctx context.Context, store *postgres.Store, token string) error {
	if _, err := store.EnsureProject(ctx, warpket.Project{ID: warpket.NewID(now()), Name: warpket.DefaultProject, CreatedDate: now()}); err != nil {
		return err
	}
	if token == "" {
		return nil
	}
	id, secret, err := warpket.ParseToken(token)
	if err != nil {
		return warpket.Errorf(warpket.Invalid, "WARPKET_OPERATOR_TOKEN is no token: it is wk_, 32 hexadecimal digits, _, and 64 of them")
	}
	t, err := store.Token(ctx, id)
	switch {
	case warpket.KindOf(err) == warpket.NotFound:
		err = store.CreateToken(ctx, warpket.Token{ID: id, Role: warpket.Operator, Name: "operator", SecretHash: warpket.HashSecret(secret), CreatedDate: now()})
	case err == nil && (!t.Holds(secret, now()) || t.Role != warpket.Operator):
		err = warpket.Errorf(warpket.Invalid, "WARPKET_OPERATOR_TOKEN has the ID of another token: make a new one")
	}
	if warpket.KindOf(err) == warpket.Conflict {
		return nil // another server was first
	}
	return err
}

func authority(ctx context.Context, store *postgres.Store) (*channel.Authority, error) {
	certificate, key, err := store.Authority(ctx, channel.NewAuthority)
	if err != nil {
		return nil, err
	}
	return channel.LoadAuthority(certificate, key)
}

// serveHTTP serves until ctx ends; requests under way have a second to finish.
func serveHTTP(ctx context.Context, l net.Listener, handler http.Handler, log *slog.Logger) error {
	// No write timeout: answers are held and streamed for as long as work takes.
	server := &http.Server{
		Handler: handler, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug), BaseContext: func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
	}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		<-ctx.Done()
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if server.Shutdown(grace) != nil {
			_ = server.Close()
		}
	}()
	err := server.Serve(l)
	if errors.Is(err, http.ErrServerClosed) {
		<-stopped
		return nil
	}
	return err
}

// notUsed is the token of callers that have none, if the operator lets them in.
func notUsed(c *config) string {
	if c.qinling.open == "" {
		return ""
	}
	return c.token
}
