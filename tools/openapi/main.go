// Command openapi prints the OpenAPI document of the API, as 3.1 or, with the
// argument 3.0, as 3.0.3. The command line client is made from it, so it cannot
// be part of the same program.
package main

import (
	"fmt"
	"log/slog"
	"os"

	"github.com/warpket/warpket/api"
)

func main() {
	write := api.Document
	if len(os.Args) > 1 && os.Args[1] == "3.0" {
		write = api.Document30
	}
	b, err := write(api.New(api.Config{Log: slog.New(slog.DiscardHandler)}))
	if err == nil {
		_, err = os.Stdout.Write(b)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "openapi:", err)
		os.Exit(1)
	}
}
