package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"

	"github.com/tidings-io/tidings/streams/embedded"
)

// port says whether a gateway could listen, or does.
func (d *doctor) port(ctx context.Context) []finding {
	l, err := net.Listen("tcp", d.listen)
	if err == nil {
		l.Close()
		return good("%s is free", d.listen)
	}
	if !errors.Is(err, syscall.EADDRINUSE) {
		return bad(listenHint("listen", err), "%v", err)
	}
	status, err := askPort(ctx, d.listen)
	switch {
	case err != nil:
		return bad("stop what listens there, or use another --listen", "%s is taken by what is no Tidings: %v", d.listen, err)
	case status == http.StatusServiceUnavailable:
		return poor("its log says what it waits for", "a Tidings that waits for NATS, or ends, has %s", d.listen)
	case status != http.StatusOK:
		return bad("stop what listens there, or use another --listen", "%s is taken by what is no Tidings: it answers %d", d.listen, status)
	}
	return good("a Tidings serves on %s", d.listen)
}

// askPort asks for the JavaScript client, which every gateway serves, by HTTP or HTTPS. It only wants to know who is there.
func askPort(ctx context.Context, address string) (status int, err error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return 0, err
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
	}}
	for _, scheme := range []string{"http", "https"} {
		var request *http.Request
		request, err = http.NewRequestWithContext(ctx, http.MethodHead, scheme+"://"+net.JoinHostPort(host, port)+"/tidings.js", nil)
		if err != nil {
			return 0, err
		}
		var response *http.Response
		if response, err = client.Do(request); err != nil {
			continue
		}
		response.Body.Close()
		if status = response.StatusCode; status == http.StatusOK || status == http.StatusServiceUnavailable {
			return status, nil
		}
	}
	if status != 0 {
		return status, nil
	}
	return 0, err
}

// files says how many connections the system lets a process have.
func (d *doctor) files(context.Context) []finding {
	most, known := fileLimit()
	if !known {
		return good("this system does not limit them")
	}
	return filesFinding(most)
}

func filesFinding(most uint64) []finding {
	clients := connectionsWithin(most)
	found := fmt.Sprintf("%s open files are allowed here, so about %s clients", grouped(most), grouped(clients))
	if clients == 1 {
		found = strings.TrimSuffix(found, "s")
	}
	if most < fewFiles {
		return poor("raise it with ulimit -Hn, or LimitNOFILE= of a systemd unit", "%s", found)
	}
	return good("%s", found)
}

// disk looks at the directory of the embedded server, and whether that runs or could.
func (d *doctor) disk(ctx context.Context) []finding {
	if d.data == "" {
		return good("the NATS server's own, see jetstream")
	}
	in, err := embedded.Inspect(d.data)
	if err != nil {
		return bad("use --data with a directory that this user may write, or run doctor as the gateway's", "%s: %v", d.data, err)
	}
	if d.natsPort <= 0 && in.UsedBy != "" { // a gateway is there, and its NATS is for it alone, or its port is not known
		return append(diskFinding(in), d.noPort()...)
	}
	taken := d.natsPort > 0 && portTaken(ctx, d.embedded())
	switch {
	case in.UsedBy != "" && !taken:
		return bad("name its --nats-host and --nats-port, or look into the log of that process",
			"%s is in use by %s, but nothing listens on %s", in.Dir, in.UsedBy, d.embedded())
	case in.UsedBy == "" && taken:
		return bad("use --nats to use it, or another --nats-port", "something else listens on %s", d.embedded())
	case in.UsedBy != "":
		d.nats.url = "nats://" + d.embedded()
	}
	return append(diskFinding(in), d.notRunning(in)...)
}

func (d *doctor) noPort() []finding {
	if d.natsPort < 0 {
		return poor("give doctor the --nats-port that its log says", "NATS has a port there that was free, so the rest cannot be looked at")
	}
	return good("NATS has no port there, so the rest cannot be looked at")
}

func (d *doctor) notRunning(in embedded.Inspection) []finding {
	if in.UsedBy != "" {
		return nil
	}
	what := "does not exist, a gateway makes it"
	if in.Exists {
		what = "is in use by nobody"
	}
	return poor("start the gateway, and come again for what is not checked before", "%s %s", in.Dir, what)
}

func diskFinding(in embedded.Inspection) []finding {
	found := fmt.Sprintf("%s holds %s in messages and %s", in.Dir, sized(in.Bytes), counted(in.Durables, "position"))
	if in.UsedBy != "" {
		found += " for " + in.UsedBy
	}
	if in.Total == 0 {
		return good("%s", found)
	}
	found += fmt.Sprintf("; %s of %s are free", sized(in.Free), sized(in.Total))
	switch {
	case in.Free < in.Reserve/10:
		return bad("make room, or lower --max-age or --max-bytes: publishers are about to be refused", "%s", found)
	case in.Free < in.Reserve:
		return poor("make room, or lower --max-age or --max-bytes: the server leaves a reserve, and then refuses publishers", "%s", found)
	}
	return good("%s", found)
}

func portTaken(ctx context.Context, address string) bool {
	dialer := net.Dialer{Timeout: 2 * time.Second}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}
