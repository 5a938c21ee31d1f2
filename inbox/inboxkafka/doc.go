// Package inboxkafka consumes topics through an inbox.
package inboxkafka
