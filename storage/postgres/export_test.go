package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// OpenTraced is Open for tests that see all that is run.
func OpenTraced(ctx context.Context, url string, tracer pgx.QueryTracer) (*Store, error) {
	return open(ctx, url, tracer)
}
