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

// port checks that the port for clients is free, or that a gateway listens on it. It recognizes a gateway by the JavaScript client, which
// every gateway serves.
func (d *doctor) port(ctx context.Context) []finding {
	if findings := freePort("listen", d.listen); findings != nil {
		return findings
	}
	status, _, err := askPort(ctx, d.listen, "/tidings.js", "http", "https")
	d.serving = err == nil && (status == http.StatusServiceUnavailable || status == http.StatusOK)
	switch {
	case err == nil && status == http.StatusServiceUnavailable:
		return poor("its log says what it waits for", "a gateway on %s waits for NATS, or shuts down", d.listen)
	case err == nil && status == http.StatusOK:
		return good("a gateway serves on %s", d.listen)
	}
	return notGateway("listen", d.listen, status, err)
}

// admin checks that the port for operators is free, or that a gateway listens on it and is ready.
func (d *doctor) admin(ctx context.Context) []finding {
	if d.adminListen == "" {
		return good("none, because of --admin-listen ''")
	}
	if findings := freePort("admin-listen", d.adminListen); findings != nil {
		return findings
	}
	status, text, err := askPort(ctx, d.adminListen, "/livez", "http")
	if err != nil || status != http.StatusOK || text != "ok" {
		return notGateway("admin-listen", d.adminListen, status, err)
	}
	switch status, text, err = askPort(ctx, d.adminListen, "/readyz", "http"); {
	case err != nil || status != http.StatusOK:
		return poor("its log says more", "the gateway on %s is alive, but not ready: %s", d.adminListen, strings.ReplaceAll(text, "\n", "; "))
	}
	return good("the gateway on %s is alive and ready", d.adminListen)
}

// freePort checks whether we could listen on the address. It returns no finding if the port is in use.
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

// notGateway returns the finding for a port that another program uses. It responded with the status, or not at all, with err.
func notGateway(flag, address string, status int, err error) []finding {
	do := "stop what listens there, or use another --" + flag
	if err != nil {
		return bad(do, "%s is in use by a program that is no gateway: %v", address, err)
	}
	return bad(do, "%s is in use by a program that is no gateway: it responds with %d", address, status)
}

// askPort requests the path with the first of the schemes that works, and returns status and body. It does not verify certificates, since
// it only finds out what listens there.
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

// files checks the limit on open files, which bounds the number of connections.
func (d *doctor) files(context.Context) []finding {
	limit, known := fileLimit()
	if !known {
		return good("this system does not limit them")
	}
	return filesFinding(limit, d.limits.cfg.Connections)
}

// filesFinding returns the finding for a limit on open files and the value of --max-connections, 0 if it is not set.
func filesFinding(limit uint64, maxConnections int) []finding {
	const do = "raise it with ulimit -Hn, or LimitNOFILE= of a systemd unit"
	clients := connectionsWithin(limit)
	found := fmt.Sprintf("%s open files are allowed here, so about %s clients", grouped(limit), grouped(clients))
	if clients == 1 {
		found = strings.TrimSuffix(found, "s")
	}
	switch {
	case maxConnections > clients:
		return poor(do+", or lower --max-connections", "%s, and --max-connections is %s", found, grouped(maxConnections))
	case limit < recommendedFiles:
		return poor(do, "%s", found)
	}
	return good("%s", found)
}

// disk checks the directory of the embedded server, and whether that server runs or could start. If it runs, the later checks use it.
func (d *doctor) disk(ctx context.Context) []finding {
	if d.data == "" {
		return good("the NATS server's own, see jetstream")
	}
	in, err := embedded.Inspect(d.data)
	if err != nil {
		return bad("use --data with a directory that this user may write, or run doctor as the gateway's", "%s: %v", d.data, err)
	}
	if d.natsPort <= 0 && in.UsedBy != "" { // a gateway runs, but its NATS server has no port, or one that we do not know
		return append(diskFinding(in), d.noPort()...)
	}
	name, taken := "", false
	if d.natsPort > 0 {
		name, taken = natsServer(ctx, d.embedded())
	}
	elsewhere := in.UsedBy == "" && taken && name == embedded.DefaultName // a gateway runs with another data directory
	switch {
	case elsewhere && d.dev && !d.given("data"): // the data of --dev is in the directory where it was started
		d.nats.url = "nats://" + d.embedded()
		return good("a gateway that was started in another directory has its NATS server on %s (run doctor there to check its disk)", d.embedded())
	case elsewhere:
		return bad("name its directory with --data, or use another --nats-port",
			"a gateway with another data directory than %s has its NATS server on %s", in.Dir, d.embedded())
	case in.UsedBy != "" && !taken:
		return bad("set its --nats-host and --nats-port, or see the log of that process",
			"%s is in use by %s, but nothing listens on %s", in.Dir, in.UsedBy, d.embedded())
	case in.UsedBy == "" && taken:
		return bad("use --nats to use it, or another --nats-port", "something else listens on %s", d.embedded())
	case in.UsedBy == "" && d.serving:
		return poor("run doctor with the --data and --nats-port of that gateway; the data of --dev is in the directory where it was started",
			"a gateway serves on %s, but its data is not in %s, and its NATS server not on %s", d.listen, in.Dir, d.embedded())
	case in.UsedBy != "":
		d.nats.url = "nats://" + d.embedded()
	}
	return append(diskFinding(in), d.notRunning(in)...)
}

func (d *doctor) noPort() []finding {
	if d.natsPort < 0 {
		return poor("run doctor with the --nats-port that its log says", "its NATS server has any free port, so the rest cannot be checked")
	}
	return good("its NATS server has no port, so the rest cannot be checked")
}

func (d *doctor) notRunning(in embedded.Inspection) []finding {
	if in.UsedBy != "" {
		return nil
	}
	what := "does not exist, a gateway creates it"
	if in.Exists {
		what = "is not in use"
	}
	return poor("start the gateway, and run doctor again for the remaining checks", "%s %s", in.Dir, what)
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

// natsServer returns the name of the NATS server that listens on the address, and whether anything listens there.
func natsServer(ctx context.Context, address string) (name string, taken bool) {
	const patience = 2 * time.Second
	dialer := net.Dialer{Timeout: patience}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return "", false
	}
	defer conn.Close()
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	line, _ := bufio.NewReader(io.LimitReader(conn, 64<<10)).ReadString('\n') // a NATS server sends INFO, with its name, first
	var info struct {
		Name string `json:"server_name"`
	}
	_ = json.Unmarshal([]byte(strings.TrimPrefix(line, "INFO ")), &info)
	return info.Name, true
}
