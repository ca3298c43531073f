package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/tidings-io/tidings/streams"
)

func newPublish() *cobra.Command {
	var (
		nats        natsFlags
		stream      streamFlags
		topic       string
		alsoTo      []string
		n           streams.Notification
		timeout     time.Duration
		machineRead bool
	)
	cmd := &cobra.Command{
		Use: "publish USER [DATA]", SuggestFor: []string{"send", "notify"},
		Short: "Store a notification to a user, or to a topic",
		Long: `Store a notification. The sequence is printed once the stream has acknowledged it: it will be delivered.
Without DATA, or with -, the data is read from standard input. A W3C trace context in TRACEPARENT goes along.
USER is the first user, --to names further ones; with --to, give DATA or - too.`,
		Example: `  tidings publish alice '{"order":991}'
  tidings publish alice --id ord-991 --kind order.shipped --ttl 24h < order.json
  tidings publish alice 'lunch?' --to bob --to carol
  tidings publish --topic releases 'v2 is out'`,
		Args: userAndData,
		RunE: func(cmd *cobra.Command, args []string) error {
			var users []string
			if topic == "" {
				if err := checkRecipients(args, alsoTo); err != nil {
					return badUsage(cmd, err)
				}
				users, args = append([]string{args[0]}, alsoTo...), args[1:]
			} else if len(args) > 1 || len(alsoTo) > 0 {
				return badUsage(cmd, errors.New("--topic excludes users: publish to the topic and to users separately"))
			}
			if timeout <= 0 {
				return badUsage(cmd, fmt.Errorf("--timeout %s: must be positive", timeout))
			}
			var err error
			if n.Data, err = data(cmd, args); err != nil {
				return err
			}
			if trace := os.Getenv("TRACEPARENT"); streams.ValidTraceparent(trace) {
				n.Traceparent = trace
			}
			nc, err := nats.connect("tidings publish", zerolog.Nop())
			if err != nil {
				return err
			}
			defer nc.Close()
			publisher, err := streams.NewPublisher(nc, stream.cfg)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			var results []streams.Result
			if topic != "" {
				receipt, err := publisher.Topic(ctx, topic, n)
				results = []streams.Result{{Receipt: receipt, Err: err}}
			} else {
				results = publisher.Users(ctx, users, n)
			}
			return report(cmd.OutOrStdout(), results, topic, machineRead)
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&topic, "topic", "", "publish to this topic instead of to users")
	flags.StringArrayVar(&alsoTo, "to", nil, "further user, beside USER; repeat for more")
	flags.StringVar(&n.ID, "id", "", "id of the notification: published twice within the duplicates window, it is stored once; with other data it is refused, if this NATS user may read the stream, or else reported as not compared")
	flags.StringVar(&n.Kind, "kind", "", "kind of the notification, such as order.shipped")
	flags.StringVar(&n.ContentType, "content-type", "", "content type of the data; with text/… data that is JSON is delivered as a string")
	durationVar(flags, &n.TTL, "ttl", 0, "time after which the notification expires, such as 24h or 30d; at least 1s")
	durationVar(flags, &timeout, "timeout", 10*time.Second, "time for the stream to acknowledge")
	flags.BoolVar(&machineRead, "json", false, "print results as JSON, one a line")
	flags.IntVar(&stream.cfg.MaxNotification, "max-notification", 0, "maximum bytes of data (default 262144)")
	stream.addName(flags)
	nats.add(flags, "nats://127.0.0.1:4222")
	return cmd
}

// checkRecipients rejects ambiguous arguments: in `publish --to bob hello`, hello may be a user or the data.
func checkRecipients(args, alsoTo []string) error {
	if len(alsoTo) == 0 {
		if len(args) == 0 {
			return errors.New("name a user, or a --topic")
		}
		return nil
	}
	write := fmt.Sprintf("the first user is an argument, --to names further ones: tidings publish %s DATA%s", alsoTo[0], repeated("to", alsoTo[1:]))
	switch len(args) {
	case 0:
		return errors.New(write)
	case 1:
		return fmt.Errorf("%s; if %.40q is the first user, give DATA too, or - for standard input", write, args[0])
	}
	return nil
}

// repeated returns a flag with each of its values, as typed on a command line.
func repeated(flag string, values []string) (text string) {
	for _, value := range values {
		text += fmt.Sprintf(" --%s %s", flag, value)
	}
	return text
}

// data returns the data of the notification: the argument, or standard input if there is none or it is -.
func data(cmd *cobra.Command, args []string) ([]byte, error) {
	if len(args) > 0 && args[0] != "-" {
		return []byte(args[0]), nil
	}
	if len(args) == 0 && isTerminal(cmd.InOrStdin()) {
		return nil, badUsage(cmd, errors.New("give DATA, or pipe it in, or - to type it"))
	}
	b, err := readInput(cmd.Context(), func() ([]byte, error) { return io.ReadAll(cmd.InOrStdin()) })
	if err != nil {
		return nil, fmt.Errorf("read the data from standard input: %w", err)
	}
	return b, nil
}

func report(w io.Writer, results []streams.Result, topic string, machineRead bool) error {
	var errs []error
	for _, r := range results {
		if r.Err != nil {
			errs = append(errs, r.Err)
		}
		if machineRead {
			line := map[string]any{"seq": r.Seq, "id": r.ID, "duplicate": r.Duplicate}
			if r.Unchecked {
				line["unchecked"] = true
			}
			if r.Err != nil {
				line = map[string]any{"error": r.Err.Error()}
			}
			if topic != "" {
				line["topic"] = topic
			} else {
				line["user"] = r.User
			}
			b, _ := json.Marshal(line)
			fmt.Fprintf(w, "%s\n", b)
			continue
		}
		to := r.User
		if topic != "" {
			to = "topic " + topic
		}
		switch {
		case r.Err != nil:
		case r.Unchecked:
			fmt.Fprintf(w, "already stored for %s: seq %d, id %s (not compared: the stored data may differ)\n", to, r.Seq, r.ID)
		case r.Duplicate:
			fmt.Fprintf(w, "already stored for %s: seq %d, id %s\n", to, r.Seq, r.ID)
		default:
			fmt.Fprintf(w, "stored for %s: seq %d, id %s\n", to, r.Seq, r.ID)
		}
	}
	return errors.Join(errs...)
}
