package cli

import (
	"strings"

	"github.com/spf13/cobra"

	client "github.com/warpket/warpket/clients/go"
)

func (a *app) templatesCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "templates [TAG]",
		Short:             "List templates, or one with its SDK versions",
		Args:              takes("[TAG]"),
		ValidArgsFunction: a.completeNames(templateTags),
		RunE: func(c *cobra.Command, args []string) error {
			server, err := a.connect()
			if err != nil {
				return err
			}
			if len(args) == 1 {
				return a.showTemplate(c, server, args[0])
			}
			r, err := server.ListTemplatesWithResponse(c.Context())
			if err != nil {
				return err
			}
			if a.json {
				return a.print(r.Body)
			}
			var rows [][]string
			for _, t := range r.JSON200.Items {
				rows = append(rows, []string{t.Tag, t.SDK, strings.Join(t.Targets, ", "), t.Description})
			}
			a.out.table("TAG\tSDK\tTARGETS\tDESCRIPTION", rows)
			return nil
		},
	}
}

func (a *app) showTemplate(c *cobra.Command, server *client.ClientWithResponses, tag string) error {
	r, err := server.GetTemplateWithResponse(c.Context(), tag)
	if err != nil {
		return err
	}
	if a.json {
		return a.print(r.Body)
	}
	t := r.JSON200
	a.out.printf("%s: %s\n", t.Tag, t.Description)
	a.out.printf("  sdk       %s", t.SDK)
	a.out.printf("  default   %s", t.DefaultSDKVersion)
	a.out.printf("  targets   %s", strings.Join(t.Targets, ", "))
	a.out.printf("  entry     %s", t.Entry)
	for i, line := range wrap(t.SDKVersions, a.out.width-12) {
		label := ""
		if i == 0 {
			label = "versions"
		}
		a.out.printf("  %-8s  %s", label, line)
	}
	a.next("warpket init " + t.Tag)
	return nil
}

// wrap sets words into lines.
func wrap(words []string, width int) (lines []string) {
	for _, w := range words {
		if last := len(lines) - 1; last >= 0 && len(lines[last])+1+len(w) <= width {
			lines[last] += " " + w
			continue
		}
		lines = append(lines, w)
	}
	return lines
}

// next says what to do next.
func (a *app) next(command string) { a.note.printf("\nnext: %s", a.note.paint(busy, command)) }

// print passes on what the API answered.
func (a *app) print(body []byte) error {
	_, err := a.out.Write(append([]byte(strings.TrimRight(string(body), "\n")), '\n'))
	return err
}
