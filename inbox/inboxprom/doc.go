// Package inboxprom shows Prometheus what a consumer of package inboxkafka does.
//
//	metrics := inboxprom.New()
//	consumer, err := inboxkafka.New(in, inboxkafka.Handle(handle), &inboxkafka.Config{
//		Brokers: []string{"kafka:9092"},
//		Topics:  []string{"orders"},
//		Hooks:   metrics.Hooks(inboxkafka.Hooks{}),
//	})
//	metrics.Watch(consumer)
//	prometheus.MustRegister(metrics)
//
// Everything but two histograms is read from Consumer.Stats at each scrape, so counting costs the
// consumer nothing. Every series is there from the start, counters at zero. Those of a partition
// are served by the process that has it. docs/metrics.md has the list, and deploy/ alert rules and
// a dashboard.
//
// It owns no state of the consumer, and only reads. Packages inbox and inboxkafka do not import it,
// so a service that does not use it has no Prometheus client.
package inboxprom
