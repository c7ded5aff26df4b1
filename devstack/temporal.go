package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	uiserver "github.com/temporalio/ui-server/v2/server"
	uiconfig "github.com/temporalio/ui-server/v2/server/config"
	uioptions "github.com/temporalio/ui-server/v2/server/server_options"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/server/common/log"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/durationpb"
)

// temporalSettings are what the child that runs Temporal and its UI needs to know.
type temporalSettings struct {
	PostgresURL string // any database on it; two of their own are made
	Ports       []int  // see frontendPort and those after it
}

// The ports of Temporal, by their place in temporalPorts, which holds their
// names in ports.json.
const (
	frontendPort = iota
	frontendHTTPPort
	historyPort
	matchingPort
	workerPort
	uiPort
)

var temporalPorts = []string{"temporal", "temporalHTTP", "temporalHistory", "temporalMatching", "temporalWorker", "temporalUI"}

const (
	// patience is how long Temporal waits for Postgres before it starts over.
	patience = 30 * time.Second

	defaultNamespace = "default"
)

// prepareTemporal says which Postgres Temporal is to use.
func (d *devstack) prepareTemporal(context.Context) (any, user, error) {
	s := temporalSettings{PostgresURL: d.cfg.postgresURL}
	if d.cfg.has(postgresPart) {
		s.PostgresURL = d.postgresURL("postgres")
	}
	for _, name := range temporalPorts {
		s.Ports = append(s.Ports, d.ports.of(name))
	}
	return s, user{}.named(), nil
}

// serveTemporal runs Temporal's four services and its UI until ctx ends.
func serveTemporal(ctx context.Context, p *part, s temporalSettings) error {
	endWithin(ctx, 1500*time.Millisecond) // all it knows is in Postgres
	logger := log.NewZapLogger(log.BuildZapLogger(log.Config{Level: "warn", Format: "console"}))

	stores, err := setUpStores(ctx, s.PostgresURL, logger)
	if err != nil {
		return err
	}
	server, err := newTemporal(stores, s.Ports, logger)
	if err != nil {
		return fmt.Errorf("making the Temporal server: %w", err)
	}
	if err := server.Start(); err != nil {
		return fmt.Errorf("starting the Temporal server: %w", err)
	}
	ui := newUI(s.Ports)
	go func() { _ = ui.Start() }() // ends the process if it cannot listen

	starting, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := errors.Join(registerDefault(starting, local(s.Ports[frontendPort])), answers(starting, "http://"+local(s.Ports[uiPort])+"/healthz")); err != nil {
		return err
	}
	p.report(ready, "")
	<-ctx.Done()
	ui.Stop()
	return server.Stop()
}

func newUI(ports []int) *uiserver.Server {
	return uiserver.NewServer(uioptions.WithConfigProvider(&uiconfig.Config{
		Host:                "127.0.0.1",
		Port:                ports[uiPort],
		TemporalGRPCAddress: local(ports[frontendPort]),
		EnableUI:            true,
		DefaultNamespace:    defaultNamespace,
		CORS:                uiconfig.CORS{CookieInsecure: true}, // there is no HTTPS here
		DisableNewsFetch:    true,
		HideLogs:            true,
	}))
}

// registerDefault registers the namespace that tools use when none is named.
// It also shows that the server works.
func registerDefault(ctx context.Context, frontend string) error {
	conn, err := grpc.NewClient(frontend, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	client := workflowservice.NewWorkflowServiceClient(conn)
	for {
		_, err := client.RegisterNamespace(ctx, &workflowservice.RegisterNamespaceRequest{
			Namespace:                        defaultNamespace,
			WorkflowExecutionRetentionPeriod: durationpb.New(24 * time.Hour),
		}, grpc.WaitForReady(true))
		err = serviceerror.FromStatus(serviceerror.ToStatus(err))
		if err == nil || errors.As(err, new(*serviceerror.NamespaceAlreadyExists)) {
			return nil
		}
		if !again(ctx) {
			return fmt.Errorf("registering the namespace %s: %w", defaultNamespace, err)
		}
	}
}

// answers waits until a URL answers with success.
func answers(ctx context.Context, url string) error {
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
			err = errors.New(resp.Status)
		}
		if !again(ctx) {
			return fmt.Errorf("the Temporal UI does not answer: %w", err)
		}
	}
}

// again waits a moment, and says whether there is time for another attempt.
func again(ctx context.Context) bool {
	select {
	case <-time.After(20 * time.Millisecond):
		return true
	case <-ctx.Done():
		return false
	}
}
