// The program that CMake wants for headers to be precompiled for. See CMakeLists.txt.
