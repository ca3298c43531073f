package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"

	"github.com/tidings-io/tidings/streams/embedded"
)

// port says whether a gateway could listen, or does. Every gateway serves the JavaScript client.
func (d *doctor) port(ctx context.Context) []finding {
	if findings := freePort("listen", d.listen); findings != nil {
		return findings
	}
	status, _, err := askPort(ctx, d.listen, "/tidings.js", "http", "https")
	d.serving = err == nil && (status == http.StatusServiceUnavailable || status == http.StatusOK)
	switch {
	case err == nil && status == http.StatusServiceUnavailable:
		return poor("its log says what it waits for", "a Tidings that waits for NATS, or ends, has %s", d.listen)
	case err == nil && status == http.StatusOK:
		return good("a Tidings serves on %s", d.listen)
	}
	return strange("listen", d.listen, status, err)
}

// admin says whether a gateway could listen for operators, or does, and what it says of itself.
func (d *doctor) admin(ctx context.Context) []finding {
	if d.adminListen == "" {
		return good("none, as --admin-listen '' says")
	}
	if findings := freePort("admin-listen", d.adminListen); findings != nil {
		return findings
	}
	status, text, err := askPort(ctx, d.adminListen, "/livez", "http")
	if err != nil || status != http.StatusOK || text != "ok" {
		return strange("admin-listen", d.adminListen, status, err)
	}
	switch status, text, err = askPort(ctx, d.adminListen, "/readyz", "http"); {
	case err != nil || status != http.StatusOK:
		return poor("its log says more", "a Tidings on %s is alive, and not ready: %s", d.adminListen, strings.ReplaceAll(text, "\n", "; "))
	}
	return good("a Tidings on %s is alive and ready", d.adminListen)
}

// freePort finds nothing where somebody listens on the address.
func freePort(flag, address string) []finding {
	l, err := net.Listen("tcp", address)
	switch {
	case err == nil:
		l.Close()
		return good("%s is free", address)
	case errors.Is(err, syscall.EADDRINUSE):
		return nil
	}
	return bad(listenHint(flag, err), "%v", err)
}

func strange(flag, address string, status int, err error) []finding {
	do := "stop what listens there, or use another --" + flag
	if err != nil {
		return bad(do, "%s is taken by what is no Tidings: %v", address, err)
	}
	return bad(do, "%s is taken by what is no Tidings: it answers %d", address, status)
}

// askPort asks for the path, by one of the schemes. It only wants to know who is there.
func askPort(ctx context.Context, address, path string, schemes ...string) (status int, text string, err error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return 0, "", err
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
	}}
	for _, scheme := range schemes {
		var request *http.Request
		request, err = http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+net.JoinHostPort(host, port)+path, nil)
		if err != nil {
			return 0, "", err
		}
		var response *http.Response
		if response, err = client.Do(request); err != nil {
			continue
		}
		body, _ := io.ReadAll(io.LimitReader(response.Body, 1000))
		response.Body.Close()
		status, text = response.StatusCode, strings.TrimSpace(string(body))
		if status == http.StatusOK || status == http.StatusServiceUnavailable {
			return status, text, nil
		}
	}
	if status != 0 {
		return status, text, nil
	}
	return 0, "", err
}

// files says how many connections the system lets a process have.
func (d *doctor) files(context.Context) []finding {
	most, known := fileLimit()
	if !known {
		return good("this system does not limit them")
	}
	return filesFinding(most, d.limits.cfg.Connections)
}

// filesFinding is for so many files, and so many connections that --max-connections asks for, 0 being any.
func filesFinding(most uint64, asked int) []finding {
	const do = "raise it with ulimit -Hn, or LimitNOFILE= of a systemd unit"
	clients := connectionsWithin(most)
	found := fmt.Sprintf("%s open files are allowed here, so about %s clients", grouped(most), grouped(clients))
	if clients == 1 {
		found = strings.TrimSuffix(found, "s")
	}
	switch {
	case asked > clients:
		return poor(do+", or lower --max-connections", "%s, and --max-connections is %s", found, grouped(asked))
	case most < recommendedFiles:
		return poor(do, "%s", found)
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
	name, taken := "", false
	if d.natsPort > 0 {
		name, taken = natsServer(ctx, d.embedded())
	}
	elsewhere := in.UsedBy == "" && taken && name == embedded.DefaultName // a gateway runs, with another data directory
	switch {
	case elsewhere && d.dev && !d.given("data"): // --dev has its data in the directory where it was started
		d.nats.url = "nats://" + d.embedded()
		return good("a gateway that was started in another directory has its NATS on %s; its disk is looked at only from there", d.embedded())
	case elsewhere:
		return bad("name its directory with --data, or use another --nats-port",
			"a gateway with another data directory than %s has its NATS on %s", in.Dir, d.embedded())
	case in.UsedBy != "" && !taken:
		return bad("name its --nats-host and --nats-port, or look into the log of that process",
			"%s is in use by %s, but nothing listens on %s", in.Dir, in.UsedBy, d.embedded())
	case in.UsedBy == "" && taken:
		return bad("use --nats to use it, or another --nats-port", "something else listens on %s", d.embedded())
	case in.UsedBy == "" && d.serving:
		return poor("give doctor the --data and --nats-port of that gateway; --dev has its data in the directory where it was started",
			"a gateway serves on %s, but its data is not in %s, and its NATS not on %s", d.listen, in.Dir, d.embedded())
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
	case in.Free < in.MinFree:
		return bad(fmt.Sprintf("make room: publishing is refused until %s are free", sized(2*in.MinFree)), "%s", found)
	case in.Free < in.Reserve/10:
		return bad("make room, or lower --max-age or --max-bytes: publishers are about to be refused", "%s", found)
	case in.Free < in.Reserve:
		return poor("make room, or lower --max-age or --max-bytes: the server leaves a reserve, and then refuses publishers", "%s", found)
	}
	return good("%s", found)
}

// natsServer returns the name of the NATS server that listens on the address, and whether anything does.
func natsServer(ctx context.Context, address string) (name string, taken bool) {
	const patience = 2 * time.Second
	dialer := net.Dialer{Timeout: patience}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return "", false
	}
	defer conn.Close()
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	line, _ := bufio.NewReader(io.LimitReader(conn, 64<<10)).ReadString('\n') // a NATS server speaks first, and names itself
	var info struct {
		Name string `json:"server_name"`
	}
	_ = json.Unmarshal([]byte(strings.TrimPrefix(line, "INFO ")), &info)
	return info.Name, true
}
