package main

import (
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/warpket/warpket/api"
)

func openapiCommand() *cobra.Command {
	var old bool
	cmd := &cobra.Command{
		Use:   "openapi",
		Short: "Print the OpenAPI document of this release",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			write := api.Document
			if old {
				write = api.Document30
			}
			b, err := write(api.New(api.Config{Log: slog.New(slog.DiscardHandler)}))
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(b)
			return err
		},
	}
	cmd.Flags().BoolVar(&old, "3.0", false, "OpenAPI 3.0.3 instead of 3.1, for tools that need it")
	return cmd
}
