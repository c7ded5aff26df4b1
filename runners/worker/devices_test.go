package worker_test

import (
	"io"
	"testing"

	"github.com/warpket/warpket/runners/worker"
)

func TestAWorkerIsToldOfItsDevicesAndOfNoOthers(t *testing.T) {
	t.Parallel()
	const code = `
import os
def handler(event, context):
    return [os.environ["CUDA_VISIBLE_DEVICES"], os.path.exists("/dev/tty")]
`
	tests := map[string]struct {
		devices func(*worker.Config)
		want    string
	}{
		"with some": {func(c *worker.Config) {
			c.Alone, c.Devices, c.DeviceEnv = true, []string{"/dev/tty"}, []string{"CUDA_VISIBLE_DEVICES=GPU-1,GPU-2"}
		}, `["GPU-1,GPU-2",true]`},
		"with none": {func(*worker.Config) {}, `["",false]`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config := configFor(t, code)
			config.Launcher = namespaces(t)
			tt.devices(&config)
			w := startWith(t, config)
			if got := w.Run(t.Context(), worker.Call{}, io.Discard); string(got.Result) != tt.want {
				t.Errorf("it found %s %+v, want %s", got.Result, got.Failure, tt.want)
			}
		})
	}
}
