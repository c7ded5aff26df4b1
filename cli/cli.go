// Package cli is the command line client.
package cli

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

// ExitCode is an error that only ends the program, with a code.
type ExitCode int

func (c ExitCode) Error() string { return fmt.Sprintf("exit code %d", int(c)) }

// AddTo adds the client's verbs to a command.
func AddTo(root *cobra.Command) {}

// Report tells a person what went wrong and gives the exit code.
func Report(w io.Writer, err error) int {
	fmt.Fprintln(w, "warpket:", err)
	return 1
}
