package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"go.temporal.io/server/common/config"
	"go.temporal.io/server/common/log"
	_ "go.temporal.io/server/common/persistence/sql/sqlplugin/postgresql" // the plugin that sqlStore names
	"go.temporal.io/server/tools/common/schema"
	sqltool "go.temporal.io/server/tools/sql"
)

// Temporal's two stores, and the databases that hold them: both keep a table
// of the same name, so they cannot share one.
const (
	mainStore       = "temporal"
	visibilityStore = "temporal_visibility"
)

// temporalSchemas are the embedded schemas of the stores, and how many
// connections each of the four services may have to them. Together they leave
// half of Postgres' 200 to the product.
var temporalSchemas = map[string]struct {
	schema      string
	connections int
}{
	mainStore:       {"postgresql/v12/temporal", 20},
	visibilityStore: {"postgresql/v12/visibility", 5},
}

// setUpStores creates Temporal's databases where they are missing and brings
// their schemas to the version of this server. It waits for a Postgres that is
// not up yet.
func setUpStores(ctx context.Context, postgresURL string, logger log.Logger) (map[string]config.DataStore, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := connectWhenUp(ctx, postgresURL)
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx)

	stores := map[string]config.DataStore{}
	for _, name := range slices.Sorted(maps.Keys(temporalSchemas)) {
		if err := createDatabase(ctx, conn, name); err != nil {
			return nil, err
		}
		store, err := sqlStore(conn.Config(), postgresURL, name)
		if err != nil {
			return nil, err
		}
		if err := setUpSchema(store, logger); err != nil {
			return nil, fmt.Errorf("setting up the schema of database %s: %w", name, err)
		}
		stores[name] = config.DataStore{SQL: store}
	}
	return stores, nil
}

// sqlStore describes one of the databases to Temporal.
func sqlStore(at *pgx.ConnConfig, postgresURL, name string) (*config.SQL, error) {
	address, err := url.Parse(postgresURL)
	if err != nil {
		return nil, errors.New("the address of Postgres is not a URL") // the error would repeat the password
	}
	attributes := map[string]string{}
	for key, values := range address.Query() {
		attributes[key] = values[0]
	}
	return &config.SQL{
		PluginName:        "postgres12_pgx",
		DatabaseName:      name,
		ConnectAddr:       net.JoinHostPort(at.Host, strconv.Itoa(int(at.Port))),
		ConnectProtocol:   "tcp",
		ConnectAttributes: attributes,
		User:              url.QueryEscape(at.User), // Temporal escapes only the password
		Password:          at.Password,
		MaxConns:          temporalSchemas[name].connections,
		MaxIdleConns:      temporalSchemas[name].connections,
		MaxConnLifetime:   time.Hour,
	}, nil
}

func setUpSchema(store *config.SQL, logger log.Logger) error {
	conn, err := sqltool.NewConnection(store, logger)
	if err != nil {
		return err
	}
	defer conn.Close()
	// A database without a version, or without the table of versions, is new.
	if version, err := conn.ReadSchemaVersion(); err != nil || version == "" {
		setUp := schema.NewSetupSchemaTask(conn, &schema.SetupConfig{InitialVersion: "0.0"}, logger)
		if err := setUp.Run(); err != nil {
			return err
		}
	}
	return schema.NewUpdateSchemaTask(conn, &schema.UpdateConfig{
		DBName:     store.DatabaseName,
		SchemaName: temporalSchemas[store.DatabaseName].schema,
	}, logger).Run()
}
