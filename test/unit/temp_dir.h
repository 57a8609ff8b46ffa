/* SPDX-License-Identifier: Apache-2.0 */
/* A directory for a test, below TMPDIR or else where the program runs, which is the build directory.
 * Include it once, after md_file.h. */
#ifndef TEMP_DIR_H
#define TEMP_DIR_H

#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char temp_dir[PATH_MAX];

/* Returns 0, or -1 as a setup function of cmocka does. */
static int temp_dir_make(void)
{
    const char *parent = getenv("TMPDIR");
    char here[PATH_MAX - 32];

    if (!parent || !*parent)
        parent = getcwd(here, sizeof(here));
    if (!parent || snprintf(temp_dir, sizeof(temp_dir), "%s/md-unit-XXXXXX", parent)
                       >= (int)sizeof(temp_dir))
        return -1;
    return mkdtemp(temp_dir) ? 0 : -1;
}

static int temp_dir_unlink(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st;
    (void)type;
    (void)at;
    return remove(path);
}

static int temp_dir_remove(void)
{
    return nftw(temp_dir, temp_dir_unlink, 16, FTW_DEPTH | FTW_PHYS);
}

#endif
