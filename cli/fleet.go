package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	client "github.com/warpket/warpket/clients/go"
)

// fleetCommand shows the nodes or the devices.
func (a *app) fleetCommand(what, short string) *cobra.Command {
	var limit int
	c := &cobra.Command{Use: what, Short: short, Args: takes()}
	c.Flags().IntVar(&limit, "limit", 200, "how many at most")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if limit < 1 {
			return &usageError{c.CommandPath(), "--limit is at least 1"}
		}
		i := slices.IndexFunc(listings(), func(l listing) bool { return l.name == what })
		return a.list(c.Context(), listings()[i], "", "", limit)
	}
	return c
}

func nodeListing() listing {
	return listing{
		name: "nodes", header: "NAME\tSTATUS\tCORES\t\tMEMORY\t\tSLOTS\tPYTHON\tISOLATION\tDEVICES",
		read: func(ctx context.Context, server *client.ClientWithResponses, f filter) ([]byte, error) {
			r, err := server.ListNodesWithResponse(ctx, &client.ListNodesParams{Cursor: f.cursor, Limit: f.limit})
			return body(r, err)
		},
		rows: rowsOf(func(n client.Node, _ time.Time) []string {
			cores := fmt.Sprintf("%g of %g", float64(n.CPULeased)/1000, float64(n.CPU)/1000)
			memory := size(n.MemoryLeased) + " of " + size(n.Memory)
			return []string{
				n.Name, string(n.Status), gauge(n.CPULeased, n.CPU, fleetCells), cores, gauge(n.MemoryLeased, n.Memory, fleetCells), memory, fmt.Sprint(n.Slots),
				dash(strings.Join(n.Pythons, " ")), string(n.Isolation.Kind), clip(inShort(n.Devices)),
			}
		}),
	}
}

func deviceListing() listing {
	return listing{
		name: "devices", header: "DEVICE\tNODE\tSTATE\tMEMORY\t\tBUSY\t\tHEAT\tPOWER\tHELD FOR\tID",
		read: func(ctx context.Context, server *client.ClientWithResponses, f filter) ([]byte, error) {
			r, err := server.ListDevicesWithResponse(ctx, &client.ListDevicesParams{Cursor: f.cursor, Limit: f.limit})
			return body(r, err)
		},
		rows: rowsOf(func(d client.Device, _ time.Time) []string {
			row := []string{clip(model(d)), d.Node, clip(state(d)), "", size(d.Memory), "", "", "-", "-", dash(clip(d.Holder.FunctionName)), d.ID}
			if l := d.Load; l.MemoryFree+l.MemoryUsed > 0 {
				row[3], row[4] = gauge(l.MemoryUsed, l.MemoryUsed+l.MemoryFree, fleetCells), size(l.MemoryUsed)+" of "+size(d.Memory)
				if d.ParentID == "" { // the driver tells no more of slices
					row[5], row[6] = gauge(l.Utilisation, 100, fleetCells), fmt.Sprintf("%d %%", l.Utilisation)
					row[7], row[8] = fmt.Sprintf("%d °C", l.Temperature), fmt.Sprintf("%.0f W", l.Power)
				}
			}
			return row
		}),
	}
}

// model is what a device is, in a word.
func model(d client.Device) string {
	name := d.Name
	if d.MigProfile != "" {
		name += " " + d.MigProfile
	}
	if d.Simulated {
		name += " (simulated)"
	}
	return name
}

// state is whether a device can be had, or why not.
func state(d client.Device) string {
	switch {
	case d.Fault != "":
		return "fault: " + d.Fault
	case d.MigEnabled:
		return "in slices"
	case d.Leased:
		return "held"
	case d.Free:
		return "free"
	}
	return "closed" // its node takes no slots
}

// inShort tells a node's devices in a line, those that are alike together.
func inShort(devices []client.Device) string {
	var names []string
	all, free := map[string]int{}, map[string]int{}
	for _, d := range devices {
		if d.MigEnabled {
			continue // its slices count
		}
		name := model(d)
		if all[name]++; all[name] == 1 {
			names = append(names, name)
		}
		if d.Free {
			free[name]++
		}
	}
	for i, name := range names {
		if all[name] > 1 {
			names[i] = fmt.Sprintf("%d of %d free: %s", free[name], all[name], name)
		}
	}
	return strings.Join(names, ", ")
}

// fleetCells is how many cells the gauges of nodes and devices have.
const fleetCells = 10

// gauge is a bar of how much of something is used, in a frame of its length.
func gauge(used, of int64, cells int) string {
	share := 0.0
	if of > 0 {
		share = min(1, max(0, float64(used)/float64(of)))
	}
	b := bar(share * float64(cells))
	return b + strings.Repeat("░", cells-utf8.RuneCountInString(b))
}
