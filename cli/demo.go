package cli

import (
	"context"
	"io"
)

// DemoInfo is what the demo shows at its end.
type DemoInfo struct{ TokenFile, TemporalUI, Data string }

// Demo does the main job once.
func Demo(ctx context.Context, out io.Writer, terminal bool, api, token string, info DemoInfo) error {
	return nil
}
