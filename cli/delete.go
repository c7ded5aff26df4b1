package cli

import (
	"bufio"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/warpket/warpket"
	client "github.com/warpket/warpket/clients/go"
)

func (a *app) deleteCommand() *cobra.Command {
	var force, yes bool
	c := &cobra.Command{
		Use:               "delete FUNCTION",
		Short:             "Delete a function",
		Long:              "Deletes a function with its versions. Its deployments give their slots back; its executions stay listed.",
		Args:              takes("FUNCTION"),
		ValidArgsFunction: a.completeNames(functionNames),
	}
	c.Flags().BoolVar(&force, "force", false, "cancel what is queued or running; else that is a reason not to delete")
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	c.RunE = func(c *cobra.Command, args []string) error {
		server, err := a.connect()
		if err != nil {
			return err
		}
		f, err := findFunction(c.Context(), server, args[0])
		if err != nil {
			return err
		}
		if !yes {
			if err := a.confirm(c, f.FunctionName); err != nil {
				return err
			}
		}
		r, err := server.DeleteFunctionWithResponse(c.Context(), f.FunctionID, &client.DeleteFunctionParams{Force: &force})
		if err != nil {
			return err
		}
		if a.json {
			return a.print(r.Body)
		}
		a.note.printf("%s deleted %s", a.note.paint(good, "✓"), f.FunctionName)
		return nil
	}
	return c
}

// confirm asks a person whether a function is to go.
func (a *app) confirm(c *cobra.Command, name string) error {
	f, ok := a.in.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) || a.json {
		return &usageError{c.CommandPath(), "nobody is there to be asked: --yes deletes without asking"}
	}
	fmt.Fprintf(a.err, "delete %s with all its versions? [y/N] ", name)
	answer, err := bufio.NewReader(f).ReadString('\n')
	if err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	return warpket.Errorf(warpket.Conflict, "%s was not deleted", name)
}
