// Package pinned compares files that were fetched with the digests that this project keeps of them,
// so that nothing is run that a registry, a mirror or a network has put in their place. The digests
// are lists as sha256sum writes them.
package pinned
