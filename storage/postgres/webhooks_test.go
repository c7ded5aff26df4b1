package postgres_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/storage/postgres"
)

func TestAWebhookComesBackAsItWasCreated(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f, _ := w.addFunction(w.project, "bell")
	w.addAlias("prod", f, 1)
	plain, fixed, draft, byAlias := w.newWebhook(f), w.newWebhook(f), w.newWebhook(f), w.newWebhook(f)
	fixed.Version, fixed.Signature, fixed.Sealed, fixed.Sync, fixed.Description = new(1), warpket.SignedByWarpket, []byte("sealed"), true, "nightly"
	draft.Version = new(warpket.DraftNumber)
	byAlias.FunctionID, byAlias.Alias = "", "prod"
	for name, hook := range map[string]warpket.Webhook{"plain": plain, "fixed": fixed, "draft": draft, "by alias": byAlias} {
		w.must(w.CreateWebhook(t.Context(), hook))
		w.must(w.CreateWebhook(t.Context(), hook)) // as a repeated request does
		for from, get := range map[string]func() (warpket.Webhook, error){
			"its project": func() (warpket.Webhook, error) { return w.Webhook(t.Context(), w.project, hook.ID) },
			"its ID":      func() (warpket.Webhook, error) { return w.WebhookByID(t.Context(), hook.ID) },
		} {
			got, err := get()
			if diff := cmp.Diff(hook, got); err != nil || diff != "" {
				t.Errorf("%s by %s: %v %s", name, from, err, diff)
			}
		}
	}
	for _, test := range []struct {
		filter postgres.WebhookFilter
		want   int
	}{
		{postgres.WebhookFilter{}, 4},
		{postgres.WebhookFilter{FunctionID: f.ID}, 3},
		{postgres.WebhookFilter{Alias: "prod"}, 1},
		{postgres.WebhookFilter{Alias: "other"}, 0},
		{postgres.WebhookFilter{Functions: []warpket.ID{f.ID}}, 4},
		{postgres.WebhookFilter{Functions: []warpket.ID{newID()}}, 0},
	} {
		items, _, err := w.Webhooks(t.Context(), w.project, test.filter, postgres.Page{Limit: 10})
		if err != nil || len(items) != test.want {
			t.Errorf("%+v gives %d (%v), want %d", test.filter, len(items), err, test.want)
		}
	}
}

func TestAWebhookIsForWhatItsProjectHas(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f, _ := w.addFunction(w.project, "bell")
	w.addAlias("prod", f, 1)
	stranger := w.addProject("two")
	set := map[string]struct {
		change func(*warpket.Webhook)
		want   warpket.Kind
	}{
		"a function of another project": {func(h *warpket.Webhook) { h.ProjectID = stranger }, warpket.NotFound},
		"a function that is not":        {func(h *warpket.Webhook) { h.FunctionID = newID() }, warpket.NotFound},
		"a version that is not":         {func(h *warpket.Webhook) { h.Version = new(7) }, warpket.Invalid},
		"an alias that is not":          {func(h *warpket.Webhook) { h.FunctionID, h.Alias = "", "other" }, warpket.NotFound},
		"an alias of another project":   {func(h *warpket.Webhook) { h.ProjectID, h.FunctionID, h.Alias = stranger, "", "prod" }, warpket.NotFound},
	}
	kept := w.newWebhook(f)
	w.must(w.CreateWebhook(t.Context(), kept))
	for name, test := range set {
		hook := w.newWebhook(f)
		test.change(&hook)
		if err := w.CreateWebhook(t.Context(), hook); warpket.KindOf(err) != test.want {
			t.Errorf("one for %s: %v, want %q", name, err, test.want)
		}
		if hook.ProjectID == stranger {
			continue
		}
		_, err := w.UpdateWebhook(t.Context(), w.project, kept.ID, now(), func(h *warpket.Webhook) error { test.change(h); return nil })
		if warpket.KindOf(err) != test.want {
			t.Errorf("changing one to %s: %v, want %q", name, err, test.want)
		}
	}
	if got, err := w.WebhookByID(t.Context(), kept.ID); err != nil || !cmp.Equal(got, kept) {
		t.Errorf("changes that were refused left %+v (%v)", got, err)
	}
	if n := w.count(`select count(*) from webhooks`); n != 1 {
		t.Errorf("%d webhooks are left", n)
	}
}

func TestUpdatesOfAWebhookTakeTurns(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f, _ := w.addFunction(w.project, "bell")
	hook := w.newWebhook(f)
	w.must(w.CreateWebhook(t.Context(), hook))
	race(8, func(int) {
		_, err := w.UpdateWebhook(t.Context(), w.project, hook.ID, now(), func(h *warpket.Webhook) error { h.RatePerMinute++; return nil })
		if err != nil {
			t.Error(err)
		}
	})
	if got, err := w.Webhook(t.Context(), w.project, hook.ID); err != nil || got.RatePerMinute != 68 {
		t.Errorf("after 8 it is %d (%v)", got.RatePerMinute, err)
	}
}
