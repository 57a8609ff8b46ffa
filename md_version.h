/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MD_VERSION_H
#define MD_VERSION_H

#ifndef MD_VERSION /* the build knows it */
#define MD_VERSION "0.0.0"
#endif

#endif
