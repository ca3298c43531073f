package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tidings-io/tidings/streams"
	"github.com/tidings-io/tidings/streams/embedded"
	"github.com/tidings-io/tidings/streams/streamstest"
)

// Findings for conditions that a test cannot create on a real machine.
func TestDoctorFindings(t *testing.T) {
	t.Parallel()
	for version, verdict := range map[string]string{
		"2.13.9": isBad, "1.9.0": isBad, "2.14.0": isGood, "2.15.2": isGood, "3.0.0-RC.1": isGood, "2.14.0-RC.1": isGood,
	} {
		finds(t, versionFinding(version), verdict, version)
	}
	finds(t, versionFinding("2.13.9"), isBad, "Tidings needs 2.14.0 (upgrade nats-server")
	finds(t, versionFinding("2.15.1"), isGood, "10 ms for each position to stop")
	if f := versionFinding("2.15.0"); strings.Contains(f[0].Found, "10 ms") {
		t.Errorf("%+v", f)
	}

	finds(t, clockFinding(-1900*time.Millisecond), isGood, "agrees")
	finds(t, clockFinding(2100*time.Millisecond), isPoor, "2.1s ahead")
	finds(t, clockFinding(-time.Hour), isPoor, "1h0m0s behind")

	finds(t, filesFinding(1024, 0), isPoor, "1,024 open files are allowed here, so about 796 clients (raise it")
	finds(t, filesFinding(100, 0), isPoor, "so about 1 client (")
	finds(t, filesFinding(1<<20, 900_000), isGood, "1,048,576 open files")
	finds(t, filesFinding(20_000, 17_401), isPoor, "so about 17,400 clients, and --max-connections is 17,401 (raise it")

	// In the same order each time.
	account := &jetstream.AccountInfo{Tiers: map[string]jetstream.Tier{"R1": {}, "R3": {}, "R5": {}, "R2": {}}}
	for range 20 {
		order := ""
		for _, f := range jetstreamFinding(account, "", 1<<20)[1:] {
			order += f.Found[:2]
		}
		if order != "R1R2R3R5" {
			t.Fatalf("tiers in the order %s", order)
		}
	}

	const gib = 1 << 30
	finds(t, diskFinding(embedded.Inspection{Dir: "d", Free: 50 * gib, Total: 100 * gib, Reserve: 5 * gib}), isGood, "50.0 GiB of 100.0 GiB are free")
	finds(t, diskFinding(embedded.Inspection{Dir: "d", Free: 4 * gib, Total: 100 * gib, Reserve: 5 * gib}), isPoor, "make room")
	finds(t, diskFinding(embedded.Inspection{Dir: "d", Free: gib / 4, Total: 100 * gib, Reserve: 5 * gib}), isBad, "make room")
	finds(t, diskFinding(embedded.Inspection{Dir: "d", Free: 63 << 20, Total: 100 * gib, Reserve: 5 * gib, MinFree: 64 << 20}), isBad, "refused until 128.0 MiB are free")
	finds(t, diskFinding(embedded.Inspection{Dir: "d", Durables: 1}), isGood, "1 position")

	peer := func(name string, current, offline bool, lag uint64) *jetstream.PeerInfo {
		return &jetstream.PeerInfo{Name: name, Current: current, Offline: offline, Lag: lag}
	}
	up, away, late := peer("b", true, false, 0), peer("c", false, true, 0), peer("c", true, false, 5000)
	for text, test := range map[string]struct {
		want    int
		verdict string
		peers   []*jetstream.PeerInfo
	}{
		"1 replica in cluster C, led by a: while that": {1, isPoor, nil},
		"while one of them is down":                    {2, isPoor, []*jetstream.PeerInfo{up}},
		"3 replicas in cluster C, led by a":            {3, isGood, []*jetstream.PeerInfo{up, up}},
		"c is offline":                                 {3, isPoor, []*jetstream.PeerInfo{up, away}},
		"c lags by 5,000":                              {3, isPoor, []*jetstream.PeerInfo{up, late}},
		"no quorum":                                    {3, isBad, []*jetstream.PeerInfo{away, away}},
	} {
		finds(t, replicasFinding(test.want, &jetstream.ClusterInfo{Name: "C", Leader: "a", Replicas: test.peers}), test.verdict, text)
	}
}

// Doctor on a real cluster, complete and without one of its nodes.
func TestDoctorOnACluster(t *testing.T) {
	if !streamstest.Long() {
		t.Skip("an election takes seconds; set TIDINGS_LONG=1")
	}
	c := streamstest.RunCluster(t, 3)
	open := func(cfg streams.Config) {
		t.Helper()
		if _, err := streams.Open(t.Context(), c.Connect(t), cfg); err != nil {
			t.Fatal(err)
		}
	}
	open(streams.Config{})
	finds(t, examine(t, "--nats", c.URLs())["replicas"], isPoor, "1 replica in cluster C")
	finds(t, examine(t, "--nats", c.URLs(), "--replicas", "3")["stream"], isPoor, "num_replicas 1 → 3")
	open(streams.Config{Replicas: 3})
	becomes := func(verdict, text string, checks ...string) {
		t.Helper()
		streamstest.Eventually(t, 2*patience, func() error {
			all := examine(t, "--nats", c.URLs())
			for _, check := range checks {
				for _, f := range all[check] {
					if f.Verdict == verdict && strings.Contains(f.Found, text) {
						return nil
					}
				}
			}
			return fmt.Errorf("%+v", all)
		})
	}
	becomes(isGood, "3 replicas in cluster C", "replicas")
	down := c.Followers(streams.DefaultName)
	c.Node(down[0]).Kill()
	becomes(isPoor, "3 replicas in cluster C", "replicas")
	c.Node(down[1]).Kill()
	becomes(isBad, "", "jetstream", "stream", "replicas")
}
