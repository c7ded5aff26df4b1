// Command histories records the histories of finished and running workflows,
// for the replay test of package workflows. Run it at a release, against a
// product of that release that has done what the end-to-end tests do:
//
//	go run ./tools/histories --temporal HOST:PORT --release v1.0.0
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"google.golang.org/protobuf/encoding/protojson"
)

func main() {
	temporal := flag.String("temporal", "", "host:port of Temporal")
	release := flag.String("release", "", "name of the release")
	out := flag.String("out", "workflows/testdata/histories", "folder to write to")
	each := flag.Int("each", 3, "how many histories of each type and outcome")
	flag.Parse()
	if *temporal == "" || *release == "" {
		flag.Usage()
		os.Exit(2)
	}
	if err := record(context.Background(), *temporal, filepath.Join(*out, *release), *each); err != nil {
		fmt.Fprintln(os.Stderr, "histories:", err)
		os.Exit(1)
	}
}

func record(ctx context.Context, address, out string, each int) error {
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	for _, namespace := range []string{"warpket-executions", "warpket-deployments"} {
		c, err := client.Dial(client.Options{HostPort: address, Namespace: namespace, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			return err
		}
		if err := recordNamespace(ctx, c, out, each); err != nil {
			return err
		}
		c.Close()
	}
	return nil
}

func recordNamespace(ctx context.Context, c client.Client, out string, each int) error {
	seen := map[string]int{}
	request := &workflowservice.ListWorkflowExecutionsRequest{PageSize: 1000}
	for {
		page, err := c.ListWorkflow(ctx, request)
		if err != nil {
			return err
		}
		for _, w := range page.GetExecutions() {
			name := fmt.Sprintf("%s-%s", w.GetType().GetName(), w.GetStatus())
			if seen[name]++; seen[name] > each {
				continue
			}
			if err := save(ctx, c, w.GetExecution().GetWorkflowId(), w.GetExecution().GetRunId(), filepath.Join(out, fmt.Sprintf("%s-%d.json", name, seen[name]))); err != nil {
				return err
			}
		}
		if request.NextPageToken = page.GetNextPageToken(); len(request.NextPageToken) == 0 {
			return nil
		}
	}
}

func save(ctx context.Context, c client.Client, id, run, file string) error {
	history := &historypb.History{}
	events := c.GetWorkflowHistory(ctx, id, run, false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for events.HasNext() {
		e, err := events.Next()
		if err != nil {
			return err
		}
		history.Events = append(history.Events, e)
	}
	b, err := protojson.Marshal(history)
	if err != nil {
		return err
	}
	return os.WriteFile(file, b, 0o600)
}
