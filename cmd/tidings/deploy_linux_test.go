package main

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/tidings-io/tidings/streams/streamstest"
)

// TestDockerfile builds the command as the Dockerfile does, and runs it as in the image: as a user without a name or privileges, in a file
// system that has nothing else but the directory for its data.
func TestDockerfile(t *testing.T) {
	if !streamstest.Long() {
		t.Skip("it builds the command anew")
	}
	dockerfile := deployFile(t, "Dockerfile")
	build := regexp.MustCompile(`(?m)^RUN (CGO_ENABLED=0 go build .*)/out/tidings (.*)$`).FindStringSubmatch(dockerfile)
	if build == nil {
		t.Fatal("it has no line that builds")
	}
	image := t.TempDir()
	sh := exec.Command("sh", "-c", build[1]+filepath.Join(image, "tidings")+" "+build[2])
	sh.Dir = root
	if out, err := sh.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", sh, err, out)
	}
	binary, err := elf.Open(filepath.Join(image, "tidings"))
	if err != nil {
		t.Fatal(err)
	}
	defer binary.Close()
	for _, p := range binary.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			t.Errorf("it is not static: it has a segment %s", p.Type)
		}
	}
	if os.Getuid() != 0 {
		t.Skip("only root can become nobody")
	}

	user := regexp.MustCompile(`(?m)^USER (\d+):(\d+)$`).FindStringSubmatch(dockerfile)
	if user == nil {
		t.Fatal("it names no user by number")
	}
	id, _ := strconv.Atoi(user[1])
	data := filepath.Join(image, "var", "lib", "tidings")
	if err := errors.Join(os.MkdirAll(data, 0o755), os.Chown(data, id, id), os.Chmod(data, 0o700), os.Chmod(image, 0o555)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Chmod(image, 0o755) })
	command := func(args ...string) (*exec.Cmd, *bytes.Buffer) {
		cmd, out := exec.Command("/tidings", args...), &bytes.Buffer{}
		cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = "/", []string{}, out, out
		cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: image, Credential: &syscall.Credential{Uid: uint32(id), Gid: uint32(id)}}
		return cmd, out
	}
	version, out := command("version")
	if err := version.Run(); err != nil || !strings.HasPrefix(out.String(), "tidings ") {
		t.Fatalf("%v: %s", err, out)
	}
	listen := net.JoinHostPort("127.0.0.1", strconv.Itoa(streamstest.FreePort(t)))
	gateway, out := command("gateway", "--data", "/var/lib/tidings", "--nats-port", "-1", "--listen", listen)
	if err := gateway.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- gateway.Wait() }()
	streamstest.Eventually(t, patience, func() error {
		select {
		case err := <-ended:
			ended <- err
			return fmt.Errorf("it has ended: %w", err)
		default:
		}
		response, err := http.Get("http://" + listen + "/tidings.js")
		if err != nil {
			return err
		}
		response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return errors.New(response.Status)
		}
		return nil
	})
	_ = gateway.Process.Signal(syscall.SIGTERM)
	if err := <-ended; err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if files, _ := os.ReadDir(data); len(files) == 0 {
		t.Errorf("it has stored nothing:\n%s", out)
	}
}

// systemd restarts a gateway that crashed, but not one that was started with wrong flags.
func TestSystemdStartsAgainAfterACrash(t *testing.T) {
	t.Parallel()
	unit := deployFile(t, "tidings.service")
	never := regexp.MustCompile(`(?m)^RestartPreventExitStatus=(.*)$`).FindStringSubmatch(unit)
	if never == nil || never[1] != strconv.Itoa(exitUsage) || !strings.Contains(unit, "\nRestart=on-failure\n") {
		t.Errorf("not started again after exit code %q", never)
	}
	wrong := launchGateway(t, "--no-such-flag")
	if code := wrong.ends(); code != exitUsage {
		t.Errorf("called in the wrong way it ended with %d", code)
	}
	// Go ends a process by this signal as it ends one that panics.
	g := runGateway(t, "--dev", "--data", t.TempDir(), "--nats-port", "0")
	g.signal(syscall.SIGQUIT)
	if code := g.ends(); code <= 0 || code == exitUsage {
		t.Errorf("a crash ended it with %d", code)
	}
}
