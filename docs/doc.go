// Package docs holds the manual, and tests that keep it in step with the code. It
// has nothing to import.
package docs
