package main

import (
	"time"

	"go.temporal.io/server/common/authorization"
	"go.temporal.io/server/common/cluster"
	"go.temporal.io/server/common/config"
	"go.temporal.io/server/common/dynamicconfig"
	"go.temporal.io/server/common/log"
	"go.temporal.io/server/common/membership/static"
	"go.temporal.io/server/common/primitives"
	"go.temporal.io/server/temporal"
)

const (
	// historyShards can never be changed for a database that has been used.
	historyShards = 4

	clusterName = "active"
	unlimited   = 100_000
)

// temporalTuning is for one busy machine and quick answers.
var temporalTuning = dynamicconfig.StaticClient{
	// Tasks are looked for 20 times a second by default, and work waits for
	// that: each step of a workflow takes 50 ms.
	dynamicconfig.TransferProcessorMaxPollRPS.Key():   5000,
	dynamicconfig.TimerProcessorMaxPollRPS.Key():      5000,
	dynamicconfig.VisibilityProcessorMaxPollRPS.Key(): 5000,
	dynamicconfig.OutboundProcessorMaxPollRPS.Key():   5000,

	// Partitions spread a queue over machines, and there is one.
	dynamicconfig.MatchingNumTaskqueueReadPartitions.Key():  1,
	dynamicconfig.MatchingNumTaskqueueWritePartitions.Key(): 1,

	// A namespace that has just been registered can be used at once.
	dynamicconfig.NamespaceCacheRefreshInterval.Key():                                      time.Second,
	dynamicconfig.FrontendNamespaceReplicationInducingAPIsRPS.Key():                        unlimited,
	dynamicconfig.FrontendMaxNamespaceNamespaceReplicationInducingAPIsRPSPerInstance.Key(): unlimited,

	// Limits protect tenants of a shared cluster from each other.
	dynamicconfig.FrontendRPS.Key():                                         unlimited,
	dynamicconfig.FrontendMaxNamespaceRPSPerInstance.Key():                  unlimited,
	dynamicconfig.FrontendMaxNamespaceVisibilityRPSPerInstance.Key():        unlimited,
	dynamicconfig.FrontendMaxConcurrentLongRunningRequestsPerInstance.Key(): unlimited,
	dynamicconfig.HistoryRPS.Key():                                          unlimited,
	dynamicconfig.MatchingRPS.Key():                                         unlimited,
	dynamicconfig.FrontendPersistenceMaxQPS.Key():                           unlimited,
	dynamicconfig.HistoryPersistenceMaxQPS.Key():                            unlimited,
	dynamicconfig.MatchingPersistenceMaxQPS.Key():                           unlimited,
	dynamicconfig.WorkerPersistenceMaxQPS.Key():                             unlimited,
	dynamicconfig.VisibilityPersistenceMaxReadQPS.Key():                     unlimited,
	dynamicconfig.VisibilityPersistenceMaxWriteQPS.Key():                    unlimited,
}

// newTemporal makes a Temporal cluster of one process.
func newTemporal(stores map[string]config.DataStore, ports []int, logger log.Logger) (temporal.Server, error) {
	const ip = "127.0.0.1"
	frontend := local(ports[frontendPort])
	var c config.Config
	c.Global.Membership.MaxJoinDuration = 30 * time.Second
	c.Global.Membership.BroadcastAddress = ip
	c.PublicClient.HostPort = frontend
	c.DCRedirectionPolicy.Policy = "noop"
	c.Persistence = config.Persistence{
		NumHistoryShards: historyShards,
		DefaultStore:     mainStore,
		VisibilityStore:  visibilityStore,
		DataStores:       stores,
	}
	c.ClusterMetadata = &cluster.Config{
		FailoverVersionIncrement: 10,
		MasterClusterName:        clusterName,
		CurrentClusterName:       clusterName,
		ClusterInformation: map[string]cluster.ClusterInformation{clusterName: {
			Enabled:                true,
			InitialFailoverVersion: 1,
			RPCAddress:             frontend,
			HTTPAddress:            local(ports[frontendHTTPPort]),
		}},
	}
	const off = "disabled"
	c.Archival.History.State, c.Archival.Visibility.State = off, off
	c.NamespaceDefaults.Archival.History.State, c.NamespaceDefaults.Archival.Visibility.State = off, off

	c.Services = map[string]config.Service{}
	hosts := map[primitives.ServiceName]static.Hosts{}
	for name, port := range map[primitives.ServiceName]int{
		primitives.FrontendService: ports[frontendPort],
		primitives.HistoryService:  ports[historyPort],
		primitives.MatchingService: ports[matchingPort],
		primitives.WorkerService:   ports[workerPort],
	} {
		rpc := config.RPC{BindOnIP: ip, GRPCPort: port}
		if name == primitives.FrontendService {
			rpc.HTTPPort = ports[frontendHTTPPort]
		}
		c.Services[string(name)] = config.Service{RPC: rpc}
		hosts[name] = static.SingleLocalHost(local(port))
	}

	authorizer, err := authorization.GetAuthorizerFromConfig(&c.Global.Authorization)
	if err != nil {
		return nil, err
	}
	claims, err := authorization.GetClaimMapperFromConfig(&c.Global.Authorization, logger)
	if err != nil {
		return nil, err
	}
	return temporal.NewServer(
		temporal.WithConfig(&c),
		temporal.ForServices(temporal.DefaultServices),
		temporal.WithStaticHosts(hosts),
		temporal.WithLogger(logger),
		temporal.WithAuthorizer(authorizer),
		temporal.WithClaimMapper(func(*config.Config) authorization.ClaimMapper { return claims }),
		temporal.WithDynamicConfigClient(temporalTuning),
	)
}
