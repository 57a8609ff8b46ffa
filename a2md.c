/* SPDX-License-Identifier: Apache-2.0 */
/* The command line tool: the library's other host. */
#include <stdio.h>
#include <string.h>

#ifndef MD_VERSION
#define MD_VERSION "0.0.0"
#endif

static int usage(void)
{
    fputs("usage: a2md -V | --version    print the version\n"
          "       a2md -h | --help       print this text\n", stderr);
    return 2;
}

int main(int argc, char *argv[])
{
    if (argc == 2 && (!strcmp(argv[1], "-V") || !strcmp(argv[1], "--version"))) {
        printf("version: %s\n", MD_VERSION);
        return 0;
    }
    return usage();
}
