package client_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"os/signal"

	"github.com/tidings-io/tidings/delivery/client"
)

// This program handles notifications until it is interrupted. When it starts again, it continues at
// its last position.
func Example() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()

	var from client.Position
	if saved, err := os.ReadFile("position.json"); err == nil {
		if err := json.Unmarshal(saved, &from); err != nil {
			log.Fatal(err)
		}
	}
	c, err := client.New(client.Config{
		URL:    "ws://127.0.0.1:8080/v1/ws",
		Token:  func(context.Context) (string, error) { return os.Getenv("TOKEN"), nil },
		Resume: &from,
		OnMessage: func(_ context.Context, m client.Message) error {
			fmt.Println(m.Seq, m.Kind, string(m.Data))
			return nil
		},
		OnGap: func(g client.Gap) { log.Printf("messages after %d may be missing: %s", g.After, g.Reason) },
	})
	if err != nil {
		log.Fatal(err)
	}
	if err := c.Run(ctx); err != nil {
		log.Print(err)
	}
	saved, err := json.Marshal(c.Position())
	if err != nil {
		log.Fatal(err)
	}
	if err := os.WriteFile("position.json", saved, 0o600); err != nil {
		log.Print(err)
	}
}

// If work continues after OnMessage returns, acknowledge the message when the work is done.
func ExampleClient_Ack() {
	work := make(chan client.Message, 100)
	c, err := client.New(client.Config{
		URL:       "ws://127.0.0.1:8080/v1/ws",
		Token:     func(context.Context) (string, error) { return os.Getenv("TOKEN"), nil },
		ManualAck: true,
		OnMessage: func(ctx context.Context, m client.Message) error {
			select {
			case work <- m:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		for m := range work { // one worker only: Ack acknowledges all earlier messages too
			fmt.Println(m.Seq, string(m.Data))
			c.Ack(m.Seq)
		}
	}()
	if err := c.Run(context.Background()); err != nil {
		log.Print(err)
	}
}
