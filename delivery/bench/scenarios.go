package bench

import "context"

// Scenario is one measurement.
type Scenario struct {
	Name        string
	About       string
	Connections int  // maximum number of connections at once, at scale 1
	OnlyIfNamed bool // it runs only if Config.Only names it
	run         func(ctx context.Context, b *bench) error
}

// Scenarios returns all scenarios in the order in which they run.
func Scenarios() []Scenario {
	return []Scenario{
		{"connect", "5,000 users connect for the first time, then again, and stay idle", 5000, false, connect},
		{"live", "100,000 messages at full speed, to 1,000 and to 5,000 users", 5000, false, live},
		{"rate", "2,000 messages a second to 1,000 users: latency", 1000, false, rate},
		{"topic", "one message to 1,000 connections", 1000, false, topic},
		{"storm", "1,000 users who missed 10 messages each reconnect at once", 1000, false, storm},
		{"cold", "10,000 users reconnect at once; each missed 5 messages that are no longer in memory", 10_000, false, cold},
		{"backlog", "one user who missed 10,000 messages reconnects", 1, false, backlog},
		{"hostile", "10,000 hostile connections beside 1,000 users: latency, and memory afterwards; only if named in --only", 11_000, true, hostile},
	}
}

// fewAtOnce is the number of clients that connect concurrently in scenarios where not all connect at once.
const fewAtOnce = 256
