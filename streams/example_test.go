package streams_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/tidings-io/tidings/streams"
)

// A backend that tells a user of an order. The receipt means that the stream has stored it.
func ExamplePublisher() {
	nc, err := nats.Connect(nats.DefaultURL)
	if err != nil {
		log.Fatal(err)
	}
	defer nc.Close()

	publisher, err := streams.NewPublisher(nc, streams.Config{})
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	receipt, err := publisher.User(ctx, "42", streams.Notification{
		ID:   "ord-991", // published again within two minutes, it is stored once
		Kind: "order.shipped",
		Data: []byte(`{"order":991}`),
		TTL:  24 * time.Hour,
	})
	if err != nil {
		log.Print(err) // it may or may not be stored: publish again with the same ID
		return
	}
	fmt.Println("stored at", receipt.Seq)
}
