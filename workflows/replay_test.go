package workflows

import (
	"log/slog"
	"path/filepath"
	"testing"

	temporallog "go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"
)

// TestHistoriesOfReleasedCodeReplay proves that workflows which an older
// release has begun go on under this code. A change that fails here needs a
// workflow.GetVersion.
func TestHistoriesOfReleasedCodeReplay(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/histories/*/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("there are no histories: %v", err)
	}
	for _, file := range files {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			r := worker.NewWorkflowReplayer()
			r.RegisterWorkflow(Execute)
			r.RegisterWorkflow(Deploy)
			r.RegisterWorkflow(BuildRuntime)
			r.RegisterWorkflow(FireSchedule)
			r.RegisterWorkflow(DeliverCallback)
			if err := r.ReplayWorkflowHistoryFromJSONFile(temporallog.NewStructuredLogger(slog.New(slog.DiscardHandler)), file); err != nil {
				t.Error(err)
			}
		})
	}
}
