package workflows

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/storage/postgres"
)

// FireScheduleInput names a schedule.
type FireScheduleInput struct {
	ScheduleID warpket.ID
}

// FireInput is a time for which a schedule fires.
type FireInput struct {
	ScheduleID warpket.ID
	At         time.Time
}

// scheduledAt is the time for which Temporal starts a workflow of a schedule.
var scheduledAt = temporal.NewSearchAttributeKeyTime("TemporalScheduledStartTime")

// FireSchedule creates the execution of one time of a schedule. It does not wait
// for it.
func FireSchedule(ctx workflow.Context, in FireScheduleInput) error {
	at, ok := workflow.GetTypedSearchAttributes(ctx).GetTime(scheduledAt)
	if !ok {
		at = workflow.GetInfo(ctx).WorkflowStartTime
	}
	var a *Activities
	return workflow.ExecuteActivity(short(ctx, "create the execution"), a.Fire, FireInput{in.ScheduleID, at}).Get(ctx, nil)
}

// Fire creates the execution of one time of a schedule, if the schedule is due
// and it is not too late. Firing again for the same time does nothing.
func (a *Activities) Fire(ctx context.Context, in FireInput) error {
	sc, err := a.Store.ScheduleByID(ctx, in.ScheduleID)
	if err == nil && sc.Due(in.At) {
		return outcome(a.fire(ctx, sc, in.At))
	}
	if warpket.KindOf(err) == warpket.NotFound || err == nil && sc.Status.Final() {
		err = a.mirrorSchedule(ctx, in.ScheduleID) // Temporal's is to go, too
	}
	return outcome(err)
}

func (a *Activities) fire(ctx context.Context, sc warpket.Schedule, at time.Time) error {
	now := a.Now()
	f := postgres.Firing{At: at}
	if sc.Late(at, now) {
		f.Reason = fmt.Sprintf("what was due at %s was missed: nobody could do it until %s later", at.UTC().Format(time.RFC3339), warpket.CatchUp)
	} else if e, err := a.scheduled(ctx, sc, now); err == nil {
		f.Execution = &e
	} else if f.Reason = messageOf(err); warpket.KindOf(err).Retryable() && warpket.KindOf(err) != warpket.OverQuota {
		return err
	}
	sc, fired, err := a.Store.FireSchedule(ctx, sc.ID, f, now)
	if f.Execution != nil && fired {
		a.recorded(*f.Execution)
	} else if f.Execution != nil {
		a.dropped(*f.Execution)
	}
	if err != nil || !fired {
		return err
	}
	if sc.Status.Final() {
		a.scheduleChanged(ctx, sc.ID)
	}
	if f.Execution == nil {
		a.Log.Warn("schedule fired in vain", "schedule", sc.ID, "at", at, "reason", f.Reason)
		return nil
	}
	if err := a.Client.startExecution(ctx, *f.Execution, false); err != nil {
		a.Log.Warn("workflow not started; the sweeper does", "execution", f.Execution.ID, "error", err)
	}
	return nil
}

// scheduled makes the execution that a schedule asks for, if its project's quota
// has room for it. It is durable whatever its function's lane is, for nobody
// waits for it.
func (a *Activities) scheduled(ctx context.Context, sc warpket.Schedule, now time.Time) (warpket.Execution, error) {
	function, number, err := a.target(ctx, sc)
	if err != nil {
		return warpket.Execution{}, err
	}
	f, err := a.Store.Function(ctx, sc.ProjectID, function)
	if err != nil {
		return warpket.Execution{}, err
	}
	v, err := a.versionOf(ctx, f, number)
	if err != nil {
		return warpket.Execution{}, err
	}
	aims, err := a.aimsOf(ctx, f, v)
	if err != nil {
		return warpket.Execution{}, err
	}
	target, resources, err := aims.Take("", warpket.Resources{}, f.Settings.Resources)
	if err != nil {
		return warpket.Execution{}, err
	}
	e := warpket.Execution{
		ID: warpket.NewID(now), ProjectID: f.ProjectID, FunctionID: f.ID, FunctionName: f.Name, VersionNumber: v.Number, SnapshotID: v.Snapshot.ID, RuntimeID: v.Snapshot.RuntimeID,
		Lane: warpket.Durable, Target: target, Description: sc.Description, Tags: []string{}, Input: warpket.Payload{Inline: sc.Input, Size: int64(len(sc.Input))},
		Shots: warpket.DefaultShots, Seed: rand.Int64N(1 << 31), //nolint:gosec // for simulations, not for secrets
		Resources: resources, Revision: f.Revision, Retries: f.Settings.Retries, Status: warpket.Queued, CreatedDate: now,
		Alias: sc.Alias, Origin: warpket.Origin{Kind: warpket.FromSchedule, ID: sc.ID},
	}
	if err := a.admit(ctx, e); err != nil {
		return e, err
	}
	if err := a.mayWait(e); err != nil {
		a.dropped(e)
		return e, err
	}
	return e, nil
}

// aimsOf is where a version can run.
func (a *Activities) aimsOf(ctx context.Context, f warpket.Function, v warpket.Version) (warpket.Aims, error) {
	if v.Snapshot.Image != nil {
		return warpket.AimsOf(v.Snapshot, warpket.Template{}, ""), nil
	}
	template, err := a.Catalog.Template(f.TemplateTag)
	if err != nil {
		return warpket.Aims{}, err
	}
	runtime, err := a.Store.Runtime(ctx, v.Snapshot.RuntimeID)
	return warpket.AimsOf(v.Snapshot, template, runtime.SDKVersion), err
}

// target finds which function a schedule executes now, and the number of the
// version; nil is the newest.
func (a *Activities) target(ctx context.Context, sc warpket.Schedule) (function warpket.ID, number *int, err error) {
	switch {
	case sc.Alias != "":
		alias, err := a.Store.Alias(ctx, sc.ProjectID, sc.Alias)
		if err != nil {
			return "", nil, err
		}
		return alias.FunctionID, new(alias.Pick(a.Random)), nil
	case sc.Draft:
		return sc.FunctionID, new(warpket.DraftNumber), nil
	case sc.Version != 0:
		return sc.FunctionID, &sc.Version, nil
	}
	return sc.FunctionID, nil, nil
}

func (a *Activities) versionOf(ctx context.Context, f warpket.Function, number *int) (warpket.Version, error) {
	if number == nil {
		return a.Store.Version(ctx, f.ProjectID, f.ID, 0)
	}
	if *number == warpket.DraftNumber {
		d, err := a.Store.Draft(ctx, f.ProjectID, f.ID)
		return d.Version(), err
	}
	return a.Store.Version(ctx, f.ProjectID, f.ID, *number)
}

// ScheduleChanged has Temporal's schedule made as the record says. That was
// promised when it changed, so the sweeper does what cannot be done now.
func (f *Fleet) ScheduleChanged(ctx context.Context, id warpket.ID) {
	f.Activities.scheduleChanged(ctx, id)
}

func (a *Activities) scheduleChanged(ctx context.Context, id warpket.ID) {
	if err := a.mirrorSchedule(ctx, id); err != nil {
		a.Log.Warn("schedule not made in Temporal; the sweeper does", "schedule", id, "error", err)
	}
}

// mirrorTime is how long a record may be locked while Temporal is told of it.
const mirrorTime = 10 * time.Second

func (a *Activities) mirrorSchedule(ctx context.Context, id warpket.ID) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), mirrorTime)
	defer cancel()
	return a.Store.MirrorSchedule(ctx, id, func(ctx context.Context, sc *warpket.Schedule) error {
		if sc == nil || sc.Status.Final() {
			return a.Client.deleteSchedule(ctx, id)
		}
		return a.Client.setSchedule(ctx, *sc)
	})
}

// resumeSchedules makes Temporal have all schedules that are open in the records.
func (a *Activities) resumeSchedules(ctx context.Context) error {
	var there map[warpket.ID]bool
	for after := warpket.ID(""); ; {
		open, err := a.Store.OpenSchedules(ctx, after)
		if err != nil || len(open) == 0 {
			return err
		}
		if there == nil {
			if there, err = a.Client.schedules(ctx); err != nil {
				return err
			}
		}
		for _, id := range open {
			if after = id; there[id] {
				continue
			}
			err := a.mirrorSchedule(ctx, id)
			if err != nil && !warpket.KindOf(err).Retryable() { // the sweeper goes on with it
				a.Log.Warn("schedule not made in Temporal", "schedule", id, "error", err)
				err = a.Store.PromiseSchedule(ctx, id)
			}
			if err != nil {
				return err
			}
		}
	}
}

// fireOverdue fires schedules whose time came while Temporal did not know them.
func (a *Activities) fireOverdue(ctx context.Context) error {
	overdue, err := a.Store.OverdueSchedules(ctx, a.Now().Add(-2*warpket.CatchUp))
	for _, sc := range overdue {
		err = errors.Join(err, a.fire(ctx, sc, *sc.NextTime))
	}
	return err
}

// setSchedule makes Temporal's schedule as the record says.
func (c *Client) setSchedule(ctx context.Context, sc warpket.Schedule) error {
	spec, err := specOf(sc)
	if err != nil {
		return err
	}
	action := &client.ScheduleWorkflowAction{
		ID: "fire/" + string(sc.ID), Workflow: FireSchedule, Args: []any{FireScheduleInput{sc.ID}}, TaskQueue: executionQueue,
		StaticSummary:         "schedule of " + sc.FunctionName,
		TypedSearchAttributes: temporal.NewSearchAttributes(kind.ValueSet("schedule"), projectID.ValueSet(string(sc.ProjectID)), functionID.ValueSet(string(sc.FunctionID))),
	}
	catchUp := warpket.CatchUp
	if sc.Pattern == "" {
		catchUp = 365 * 24 * time.Hour // what is asked for once is done late rather than never
	}
	paused := sc.Status == warpket.SchedulePaused
	_, err = c.executions.ScheduleClient().Create(ctx, client.ScheduleOptions{
		ID: string(sc.ID), Spec: spec, Action: action, Overlap: enumspb.SCHEDULE_OVERLAP_POLICY_SKIP, CatchupWindow: catchUp, Paused: paused,
	})
	if errors.Is(err, temporal.ErrScheduleAlreadyRunning) {
		err = c.executions.ScheduleClient().GetHandle(ctx, string(sc.ID)).Update(ctx, client.ScheduleUpdateOptions{DoUpdate: func(client.ScheduleUpdateInput) (*client.ScheduleUpdate, error) {
			return &client.ScheduleUpdate{Schedule: &client.Schedule{
				Spec: &spec, Action: action, Policy: &client.SchedulePolicies{Overlap: enumspb.SCHEDULE_OVERLAP_POLICY_SKIP, CatchupWindow: catchUp}, State: &client.ScheduleState{Paused: paused},
			}}, nil
		}})
	}
	if _, refused := errors.AsType[*serviceerror.InvalidArgument](err); refused {
		return warpket.Because(warpket.Invalid, err, "Temporal does not take the schedule %s", sc.ID)
	}
	return explain(err)
}

// specOf says to Temporal when a schedule fires.
func specOf(sc warpket.Schedule) (client.ScheduleSpec, error) {
	spec := client.ScheduleSpec{TimeZoneName: "UTC"}
	if sc.Pattern != "" {
		cron, err := warpket.ParseCron(sc.Pattern, sc.TimeZone)
		if err != nil {
			return spec, err
		}
		spec.TimeZoneName = cron.Zone.String()
		calendar := client.ScheduleCalendarSpec{
			Minute: ranges(cron, warpket.CronMinute), Hour: ranges(cron, warpket.CronHour), DayOfMonth: ranges(cron, warpket.CronDay),
			Month: ranges(cron, warpket.CronMonth), DayOfWeek: ranges(cron, warpket.CronWeekday),
		}
		if cron.EitherDay() { // Temporal wants both
			other := calendar
			calendar.DayOfWeek, other.DayOfMonth = nil, nil
			spec.Calendars = append(spec.Calendars, other)
		}
		spec.Calendars = append(spec.Calendars, calendar)
	}
	if sc.FirstTime != nil {
		zone, err := time.LoadLocation(spec.TimeZoneName)
		if err != nil {
			return spec, err
		}
		first := sc.FirstTime.In(zone)
		exactly := func(n int) []client.ScheduleRange { return []client.ScheduleRange{{Start: n}} }
		spec.Calendars = append(spec.Calendars, client.ScheduleCalendarSpec{
			Second: exactly(first.Second()), Minute: exactly(first.Minute()), Hour: exactly(first.Hour()), DayOfMonth: exactly(first.Day()), Month: exactly(int(first.Month())), Year: exactly(first.Year()),
		})
		spec.StartAt = *sc.FirstTime
	}
	return spec, nil
}

func ranges(c warpket.Cron, field int) []client.ScheduleRange {
	var out []client.ScheduleRange
	for _, r := range c.Ranges(field) {
		out = append(out, client.ScheduleRange{Start: r.From, End: r.To})
	}
	return out
}

func (c *Client) deleteSchedule(ctx context.Context, id warpket.ID) error {
	err := c.executions.ScheduleClient().GetHandle(ctx, string(id)).Delete(ctx)
	if _, gone := errors.AsType[*serviceerror.NotFound](err); gone {
		return nil
	}
	return explain(err)
}

// schedules are those that Temporal has.
func (c *Client) schedules(ctx context.Context) (map[warpket.ID]bool, error) {
	there := map[warpket.ID]bool{}
	list, err := c.executions.ScheduleClient().List(ctx, client.ScheduleListOptions{PageSize: 1000})
	if err != nil {
		return nil, explain(err)
	}
	for list.HasNext() {
		entry, err := list.Next()
		if err != nil {
			return nil, explain(err)
		}
		if id, err := warpket.ParseID("schedule", entry.ID); err == nil {
			there[id] = true
		}
	}
	return there, nil
}

// ScheduleURL is the page of a schedule in the Temporal UI.
func (c *Client) ScheduleURL(id warpket.ID) string {
	if c.config.UI == "" {
		return ""
	}
	return fmt.Sprintf("%s/namespaces/%s/schedules/%s", c.config.UI, c.config.ExecutionNamespace, id)
}
