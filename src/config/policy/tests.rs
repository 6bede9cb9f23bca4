//! Tests of the policies by their structure. Left for the module below.
