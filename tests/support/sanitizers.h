/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Which sanitizer this is compiled for. gcc defines macros, clang has features.
 */
#ifndef SANITIZERS_H
#define SANITIZERS_H

#ifdef __has_feature
#define TEST_HAS_FEATURE(feature) __has_feature(feature)
#else
#define TEST_HAS_FEATURE(feature) 0
#endif

#if defined(__SANITIZE_ADDRESS__) || TEST_HAS_FEATURE(address_sanitizer)
#define TEST_ASAN 1
#else
#define TEST_ASAN 0
#endif

#if defined(__SANITIZE_THREAD__) || TEST_HAS_FEATURE(thread_sanitizer)
#define TEST_TSAN 1
#else
#define TEST_TSAN 0
#endif

#endif
