package bench

import "context"

// Scenario is one thing that is measured.
type Scenario struct {
	Name        string
	About       string
	Connections int  // at once, at scale 1
	Asked       bool // it runs only where it is named
	run         func(ctx context.Context, b *bench) error
}

// Scenarios are all there are, in the order in which they run.
func Scenarios() []Scenario {
	return []Scenario{
		{"connect", "5,000 users come for the first time, then again, and stay idle", 5000, false, connect},
		{"live", "100,000 messages at full speed, to 1,000 and to 5,000 users", 5000, false, live},
		{"rate", "2,000 messages a second to 1,000 users: latency", 1000, false, rate},
		{"topic", "one message to 1,000 connections", 1000, false, topic},
		{"storm", "1,000 users who missed 10 each come back at once", 1000, false, storm},
		{"cold", "10,000 users who missed 5 each, which are no longer in memory, come back at once", 10_000, false, cold},
		{"backlog", "one user who missed 10,000", 1, false, backlog},
		{"hostile", "10,000 hostile connections beside 1,000 users: latency, and what is left of them; only where it is named", 11_000, true, hostile},
	}
}

// fewAtOnce is how many connect at a time where it is not all of them.
const fewAtOnce = 256
