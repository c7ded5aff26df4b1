package main

import (
	"context"
	"io"
	"os"
	"testing"
	"time"

	"github.com/warpket/warpket/runners/sandbox"
)

func TestMain(m *testing.M) {
	sandbox.Main()
	os.Exit(m.Run())
}

func TestInstallersAreKeptApartOnEveryNodeThatKeepsFunctionsApart(t *testing.T) {
	t.Parallel()
	for isolation, want := range map[string]string{"namespaces": "namespaces", "gvisor": "namespaces", "none": "none"} {
		t.Run(isolation, func(t *testing.T) {
			t.Parallel()
			var c config
			c.node.isolation, c.node.runsc = isolation, os.Getenv("WARPKET_TEST_RUNSC") // "make test" builds it
			if isolation == "gvisor" && c.node.runsc == "" && os.Getenv("CI") == "" {
				t.Skip("WARPKET_TEST_RUNSC names no runsc")
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			dir := t.TempDir()
			launcher, _, err := c.isolation(ctx, dir)
			if err != nil {
				t.Fatal(err)
			}
			installers, err := installer(ctx, launcher, dir)
			if err != nil {
				t.Fatal(err)
			}
			if got := installers.Isolation().Kind; launcher.Isolation().Kind == isolation && got != want {
				t.Errorf("installers have the isolation %s", got)
			}
			for _, l := range []sandbox.Launcher{installers, launcher} {
				if closer, ok := l.(io.Closer); ok {
					if err := closer.Close(); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
}
